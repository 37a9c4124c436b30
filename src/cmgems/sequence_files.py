"""Sequence files, whatever their format, as one stream of pieces of base codes.

The format is told by the first bytes, never by the name. FASTA (plain, gzip, bgzip) and 2bit are
read by our own code, GenBank and EMBL by Biopython.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmgems.errors import UserError

WANTED = "wanted: FASTA (plain, gzip or bgzip), 2bit, GenBank or EMBL"
TWOBIT_SIGNATURES = {b"\x1a\x41\x27\x43": ">", b"\x43\x27\x41\x1a": "<"}
# First bytes of what people hand in by mistake, and what to say.
_FOREIGN = (
    (b"\xef\xbb\xbf", "begins with a byte-order mark (UTF-8); save it as plain ASCII"),
    (b"\xff\xfe", "begins with a byte-order mark (UTF-16); save it as plain ASCII"),
    (b"\xfe\xff", "begins with a byte-order mark (UTF-16); save it as plain ASCII"),
    (b"BZh", "is packed with bzip2; unpack it or pack it with gzip"),
    (b"\xfd7zXZ", "is packed with xz; unpack it or pack it with gzip"),
    (b"\x28\xb5\x2f\xfd", "is packed with zstd; unpack it or pack it with gzip"),
    (b"PK\x03\x04", "is a zip archive; unpack it or pack the FASTA with gzip"),
    (b"CRAM", "is a CRAM file"),
    (b"\x93NUMPY", "is a NumPy array"),
)


class Segment(NamedTuple):
    """A part of a piece that belongs to one contig."""

    name: str | None  # None: goes on with the contig of the segment before
    start: int  # offset of its first base in the codes of the piece
    stop: int
    n_count: int  # bases with code 4, IUPAC codes included
    iupac_count: int
    place: int | str  # where the contig begins: byte of the (unpacked) text, or "record 3"


class Piece(NamedTuple):
    """Base codes of consecutive sequence; each contig that begins in it is preceded by a code 4.

    The codes are a view of a buffer that is used again (see `read_pieces`).
    """

    codes: np.ndarray  # uint8
    segments: list[Segment]


def read_pieces(path: Path, advance: Callable[[int], object] = lambda n: None) -> Iterator[Piece]:
    """The sequence of a file in pieces of a few megabytes.

    Parameters
    ----------
    path : a FASTA (plain, gzip, bgzip), 2bit, GenBank or EMBL file
    advance : called with the number of bytes of the file that were read since the last call

    The codes of a piece are overwritten when the thread that asked for it asks for another.

    Raises
    ------
    UserError
        If the file cannot be read, is of another format, is damaged, or has no sequence.
    """
    begun = False
    with open_source(path) as handle:
        head = handle.read(8192)
        if not head:
            raise UserError(f"{path}: is empty; {WANTED}")
        handle.seek(0)
        for piece in _reader(path, handle, head, advance):
            begun = begun or any(s.name is not None for s in piece.segments)
            yield piece
    if not begun:
        raise UserError(f"{path}: has no sequence; {WANTED}")


def open_source(path: Path):
    """Open for reading bytes; what stands in the way is told in one line."""
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise UserError(f"{path}: is a directory; {WANTED}")
        if not stat.S_ISREG(kind):
            raise UserError(f"{path}: is a pipe or a device; wanted: a file")
        return open(path, "rb", buffering=0)
    except OSError as error:
        raise UserError(f"{path}: {_reason(error)}; {WANTED}") from error


def _reason(error: OSError) -> str:
    known = {
        errno.ENOENT: "does not exist",
        errno.EACCES: "no permission to read it",
        errno.ENOTDIR: "does not exist",
        errno.ENAMETOOLONG: "the name is too long for a file",
    }
    return known.get(error.errno, os.strerror(error.errno) if error.errno else str(error))


def _reader(path: Path, handle, head: bytes, advance) -> Iterator[Piece]:
    if head[:4] in TWOBIT_SIGNATURES:
        from cmgems.twobit import twobit_pieces

        return twobit_pieces(path, handle, advance)
    if not is_gzip(head):
        return _text_reader(path, Plain(handle, advance), head)
    from cmgems.gzipped import Unpacked

    stream = Unpacked(path, handle, advance)
    head = stream.peek(8192)
    if not head:
        raise UserError(f"{path}: is empty once unpacked; {WANTED}")
    return _text_reader(path, stream, head)


def is_gzip(head: bytes) -> bool:
    return head[:2] == b"\x1f\x8b"


def _text_reader(path: Path, stream, head: bytes) -> Iterator[Piece]:
    for magic, sentence in _FOREIGN:
        if head.startswith(magic):
            raise UserError(f"{path}: {sentence}; {WANTED}")
    text = head.lstrip(b"\r\n")
    if text.startswith((b"LOCUS ", b"ID   ")):
        from cmgems.flat_files import flat_file_pieces

        return flat_file_pieces(path, stream, "genbank" if text[:5] == b"LOCUS" else "embl")
    if text and not text.startswith(b">"):
        raise UserError(f"{path}: {_no_header(text)}; {WANTED}")
    from cmgems.fasta_files import fasta_pieces

    return fasta_pieces(path, stream)


def _no_header(text: bytes) -> str:
    if text.startswith(b"@"):
        return "is FASTQ (begins with '@')"
    if text.lstrip().startswith(b"<"):
        return "is HTML or XML (begins with '<'); was a web page saved in place of the file?"
    if b"\0" in text:
        return f"is a binary file that is not known here (begins with {text[:8]!r})"
    line = text.split(b"\n", 1)[0][:40].rstrip(b"\r").decode("ascii", "backslashreplace")
    return f"has no header: a FASTA file begins with '>', here stands {line!r}"


class Plain:
    """A file as it is, for the readers of text formats."""

    def __init__(self, handle, advance=lambda n: None):
        self._handle, self._advance = handle, advance

    def readinto(self, view: memoryview) -> int:
        got = self._handle.readinto(view)
        self._advance(got)
        return got


def place_of(path: Path, place: int | str) -> str:
    """Where a contig begins, in words: `line 12` of a FASTA file, else as the reader said it."""
    return place if isinstance(place, str) else f"line {line_at(path, place)[0]}"


def line_at(path: Path, offset: int) -> tuple[int, int]:
    """The line, from 1, of a byte of the (unpacked) text, and the byte. For messages: reads all."""
    with open_source(path) as handle:
        packed = is_gzip(handle.read(2))
        handle.seek(0)
        if packed:
            from cmgems.gzipped import Unpacked

            stream = Unpacked(path, handle)
        else:
            stream = Plain(handle)
        line, left, buffer = 1, offset, bytearray(1 << 20)
        while got := stream.readinto(memoryview(buffer)):
            if got > left:
                return line + buffer.count(b"\n", 0, left), buffer[left]
            line += buffer.count(b"\n", 0, got)
            left -= got
    raise UserError(f"{path}: changed while it was read")
