"""The lines of a text file that people have: plain, gzip or bgzip, of any size, one at a time."""

from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

from cmgems.errors import UserError
from cmgems.genome.formats.base import ByteStream, PlainStream
from cmgems.genome.formats.bgzip import GzipStream
from cmgems.utils.files import is_gzip, open_input

MAX_LINE = 1 << 28  # bytes; a VCF of 500,000 samples stays far below
_CHUNK = 1 << 20  # bytes that are read at a time
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_lines(
    path: Path, wanted: str, advance: Callable[[int], object] = lambda n: None
) -> Iterator[tuple[int, str]]:
    """The lines of a file without their ends, each with its number, from 1.

    A line that is not UTF-8 is read as Latin-1: it may hold a name in an old encoding, and the rest
    of the file is usable.

    Parameters
    ----------
    wanted : ends the messages
    advance : called with the number of bytes of the file that were read since the last call

    Raises
    ------
    UserError
        If the file cannot be opened, is damaged, is not text, or has a line of over 256 MiB.
    """
    with open_input(path, wanted) as handle:
        number = 0
        try:
            for raw in _raw_lines(_unpacked(path, handle, advance)):
                number += 1
                if number == 1:
                    raw = raw.removeprefix(_BYTE_ORDER_MARK)
                    if b"\0" in raw:
                        raise UserError(f"{path}: is not text, wanted {wanted}")
                yield number, _decoded(raw.removesuffix(b"\r"))
        except _TooLong:
            raise UserError(
                f"{path}: line {number + 1}: has more than {MAX_LINE:,} bytes, wanted {wanted}"
            ) from None


def first_bytes(path: Path, wanted: str, count: int) -> bytes:
    """The first bytes of the unpacked text, which tell its format."""
    with open_input(path, wanted) as handle:
        buffer = bytearray(count)
        return bytes(buffer[: _unpacked(path, handle).readinto(memoryview(buffer))])


class _TooLong(Exception):
    """A line that is longer than any text's."""


def _unpacked(
    path: Path, handle: FileIO, advance: Callable[[int], object] = lambda n: None
) -> ByteStream:
    packed = is_gzip(handle.read(2))
    handle.seek(0)
    return GzipStream(path, handle, advance) if packed else PlainStream(handle, advance)


def _raw_lines(stream: ByteStream) -> Iterator[bytes]:
    buffer = bytearray(_CHUNK)
    begun: list[bytes] = []  # the parts of a line whose end has not been read
    while count := stream.readinto(memoryview(buffer)):
        *ended, rest = bytes(buffer[:count]).split(b"\n")
        for part in ended:
            yield b"".join((*begun, part)) if begun else part
            begun = []
        begun.append(rest)
        if len(begun) > MAX_LINE // _CHUNK:
            raise _TooLong
    if any(begun):
        yield b"".join(begun)


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
