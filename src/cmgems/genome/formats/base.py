"""What the readers of sequence files have in common: pieces of base codes, and opening a file."""

from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.formats.bgzip import Unpacked
from cmgems.utils.files import is_gzip, open_input

FORMATS = "FASTA (plain, gzip or bgzip), 2bit, GenBank or EMBL"
WANTED = f"wanted: {FORMATS}"


class Stream(Protocol):
    """Bytes in order, as the readers of text formats take them."""

    def readinto(self, view: memoryview) -> int: ...


class Segment(NamedTuple):
    """A part of a piece that belongs to one contig."""

    name: str | None  # None: goes on with the contig of the segment before
    start: int  # offset of its first base in the codes of the piece
    stop: int
    n_count: int  # bases with code 4, IUPAC codes included
    iupac_count: int
    place: int | str  # where the contig begins: byte of the (unpacked) text, or "record 3"


class SequenceChunk(NamedTuple):
    """Base codes of consecutive sequence; each contig that begins in it is preceded by a code 4.

    The codes are a view of a buffer that is used again (see `reader.read_chunks`).
    """

    codes: np.ndarray  # uint8
    segments: list[Segment]


def open_source(path: Path) -> FileIO:
    """Open a sequence file for reading bytes; what stands in the way is told in one line."""
    return open_input(path, FORMATS)


class Plain:
    """A file as it is, for the readers of text formats."""

    def __init__(self, handle: FileIO, advance: Callable[[int], object] = lambda n: None):
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
        stream: Stream = Unpacked(path, handle) if packed else Plain(handle)
        line, left, buffer = 1, offset, bytearray(1 << 20)
        while got := stream.readinto(memoryview(buffer)):
            if got > left:
                return line + buffer.count(b"\n", 0, left), buffer[left]
            line += buffer.count(b"\n", 0, got)
            left -= got
    raise UserError(f"{path}: changed while it was read")
