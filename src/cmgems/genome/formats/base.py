"""What the readers of sequence files share: chunks of base codes, and opening a file."""

from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.formats.bgzip import GzipStream
from cmgems.utils.files import is_gzip, open_input

FORMATS = "FASTA (plain, gzip or bgzip), 2bit, GenBank or EMBL"
WANTED = f"wanted: {FORMATS}"


class ByteStream(Protocol):
    """Bytes in order, which is what the readers of text formats need."""

    def readinto(self, view: memoryview) -> int:
        """Fill the view as far as there is more, and return the number of bytes."""
        ...


class Segment(NamedTuple):
    """The part of a chunk that belongs to one contig."""

    name: str | None  # None: continues the contig of the previous segment
    start: int  # offset of its first base in the codes of the chunk
    stop: int
    n_count: int  # bases with code 4, IUPAC codes included
    iupac_count: int
    location: int | str  # where the contig begins: byte of the (unpacked) text, or "record 3"


class SequenceChunk(NamedTuple):
    """Base codes of consecutive sequence; each contig that begins in it is preceded by a code 4.

    The codes are a view of a buffer that is used again (see `cmgems.genome.formats.reader`).
    """

    codes: np.ndarray  # uint8
    segments: list[Segment]
    # uint64: bit i % 64 of word i // 64 is 1 where code i is a known base that is soft-masked (in
    # lower case); None where that was not asked for, or the format does not say
    lower: np.ndarray | None = None


def pack_bits(values: np.ndarray) -> np.ndarray:
    """uint64: the values, 0 or 1, as bits; see `SequenceChunk.lower`."""
    packed = np.packbits(np.asarray(values, np.uint8), bitorder="little")
    return np.pad(packed, (0, -len(packed) % 8)).view("<u8")


def open_source(path: Path) -> FileIO:
    """Open a sequence file for reading bytes; a `UserError` names what prevents it."""
    return open_input(path, FORMATS)


class PlainStream:
    """The bytes of a file that is not packed.

    Parameters
    ----------
    handle : the open file
    advance : called with the number of bytes that were read since the last call
    """

    def __init__(self, handle: FileIO, advance: Callable[[int], object] = lambda n: None) -> None:
        self._handle, self._advance = handle, advance

    def readinto(self, view: memoryview) -> int:
        count = self._handle.readinto(view)
        self._advance(count)
        return count


def describe_location(path: Path, location: int | str) -> str:
    """Where a contig begins, in words: `line 12` of a FASTA file, else as its reader put it."""
    return location if isinstance(location, str) else f"line {find_line(path, location)[0]}"


def find_line(path: Path, offset: int) -> tuple[int, int]:
    """The number of the line, from 1, of a byte of the (unpacked) text, and the byte's value.

    It reads the file up to that byte, so it is for error messages only.
    """
    with open_source(path) as handle:
        packed = is_gzip(handle.read(2))
        handle.seek(0)
        stream: ByteStream = GzipStream(path, handle) if packed else PlainStream(handle)
        line, remaining, buffer = 1, offset, bytearray(1 << 20)
        while count := stream.readinto(memoryview(buffer)):
            if count > remaining:
                return line + buffer.count(b"\n", 0, remaining), buffer[remaining]
            line += buffer.count(b"\n", 0, count)
            remaining -= count
    raise UserError(f"{path}: changed while it was read")
