"""UCSC 2bit files as chunks of base codes.

Format (https://genome.ucsc.edu/FAQ/FAQformat.html#format7): a header of four 32-bit integers
(signature, version 0, number of sequences, 0), an index (name length, name, offset) and for each
sequence: bases, N blocks (starts, sizes), mask blocks (starts, sizes), 0, and the bases packed
four per byte, the first in the highest two bits, T C A G = 0 1 2 3. The order of the signature's
bytes is that of all others.
"""

from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.alphabet import AMBIGUOUS
from cmgems.genome.formats.base import Segment, SequenceChunk, pack_bits
from cmgems.genome.spans import Spans

SIGNATURES = {b"\x1a\x41\x27\x43": ">", b"\x43\x27\x41\x1a": "<"}  # -> order of bytes
CHUNK = 1 << 22  # bases
_REMEDY = "fetch it again, or make it again with faToTwoBit"


def _unpacking_table() -> np.ndarray:
    """Byte -> its four base codes, uint8 [256, 4]."""
    base_codes = np.array([1, 2, 0, 3], np.uint8)  # of T C A G
    packed = np.arange(256)
    return np.stack([base_codes[packed >> shift & 3] for shift in (6, 4, 2, 0)], axis=1)


class _TwoBitFile:
    """The bytes of a 2bit file; whatever would lie past its end is a `UserError`."""

    def __init__(self, path: Path, handle: FileIO, order: str) -> None:
        self.path, self.handle, self.order = path, handle, order
        self.size = handle.seek(0, 2)

    def require(self, at: int, count: int, label: str) -> None:
        if at + count > self.size:
            raise UserError(
                f"{self.path}: the 2bit file is truncated or damaged: {label} should be at bytes"
                f" {at} to {at + count}, the file has {self.size}; {_REMEDY}"
            )

    def bytes(self, at: int, count: int, label: str) -> bytes:
        self.require(at, count, label)
        self.handle.seek(at)
        parts: list[bytes] = []
        while count and (part := self.handle.read(count)):
            parts.append(part)
            count -= len(part)
        if count:
            raise UserError(f"{self.path}: became shorter while it was read")
        return b"".join(parts)

    def integers(self, at: int, count: int, label: str) -> np.ndarray:
        return np.frombuffer(self.bytes(at, 4 * count, label), f"{self.order}u4").astype(np.int64)


def read_twobit(
    path: Path, handle: FileIO, advance: Callable[[int], object], with_case: bool = False
) -> Iterator[SequenceChunk]:
    """Chunks of at most `CHUNK` bases; `advance` is called with the bytes read since the last."""
    handle.seek(0)
    order = SIGNATURES[handle.read(4)]
    file = _TwoBitFile(path, handle, order)
    _, version, count, _ = file.integers(0, 4, "the header").tolist()
    if version != 0:
        raise UserError(f"{path}: is 2bit version {version}; wanted: version 0")
    for number, (name, at) in enumerate(_index(file, count), 1):
        yield from _sequence(file, number, name, at, advance, with_case)


def _index(file: _TwoBitFile, count: int) -> list[tuple[str, int]]:
    """Name and offset of each sequence."""
    at = 16
    entries: list[tuple[str, int]] = []
    for number in range(1, count + 1):
        length = file.bytes(at, 1, f"entry {number} of the index")[0]
        entry = file.bytes(at + 1, length + 4, f"entry {number} of the index")
        try:
            name = entry[:length].decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{file.path}: name {number} of the index is not UTF-8 text") from error
        if not name or name.split() != [name]:
            raise UserError(f"{file.path}: name {number} of the index is {name!r}; {_REMEDY}")
        entries.append((name, int(np.frombuffer(entry[length:], f"{file.order}u4")[0])))
        at += 1 + length + 4
    return entries


def _spans(file: _TwoBitFile, at: int, size: int, label: str) -> tuple[Spans, int]:
    """The blocks of a kind, and the offset after them."""
    count = int(file.integers(at, 1, label)[0])
    both = file.integers(at + 4, 2 * count, label)
    starts, ends = both[:count], both[:count] + both[count:]
    if np.any(ends > size) or np.any(starts[1:] < ends[:-1]):
        raise UserError(f"{file.path}: {label} overlap or pass its end; {_REMEDY}")
    return Spans(starts, ends), at + 4 + 8 * count


class _Header(NamedTuple):
    """What precedes the bases of a sequence."""

    size: int  # bases
    unknown: Spans  # N, offsets in the sequence
    lower: Spans  # soft-masked
    offset: int  # of the packed bases in the file


def _header(file: _TwoBitFile, name: str, at: int) -> _Header:
    size = int(file.integers(at, 1, f"the head of {name!r}")[0])
    unknown, after = _spans(file, at + 4, size, f"the N blocks of {name!r}")
    lower, after = _spans(file, after, size, f"the mask blocks of {name!r}")
    offset = after + 4  # a reserved 0
    file.require(offset, -(-size // 4), f"the sequence of {name!r}")
    return _Header(size, unknown, lower, offset)


def _sequence(
    file: _TwoBitFile,
    number: int,
    name: str,
    at: int,
    advance: Callable[[int], object],
    with_case: bool,
) -> Iterator[SequenceChunk]:
    header = _header(file, name, at)
    table = _unpacking_table()
    location = f"sequence {number} of its index"
    for start in range(0, max(header.size, 1), CHUNK):
        stop = min(start + CHUNK, header.size)
        packed = file.bytes(
            header.offset + start // 4, -(-(stop - start) // 4), f"the sequence of {name!r}"
        )
        first = int(start == 0)  # room for the code 4 before the contig
        codes = np.empty(first + 4 * len(packed), np.uint8)
        codes[:first] = AMBIGUOUS
        codes[first:] = table[np.frombuffer(packed, np.uint8)].ravel()
        codes = codes[: first + stop - start]
        _mark(codes[first:], AMBIGUOUS, start, header.unknown)
        lower = np.zeros(len(codes), np.uint8) if with_case else None
        if lower is not None:
            _mark(lower[first:], 1, start, header.lower)
            lower &= codes < AMBIGUOUS
        advance(len(packed))
        n_count = int(np.count_nonzero(codes[first:] == AMBIGUOUS))
        contig = name if first else None
        segment = Segment(contig, first, len(codes), n_count, 0, location)
        yield SequenceChunk(codes, [segment], None if lower is None else pack_bits(lower))


def _mark(values: np.ndarray, value: int, first: int, spans: Spans) -> None:
    """Set the spans of a sequence within `values`, which are of its bases from `first` on."""
    stop = first + len(values)
    inside = slice(np.searchsorted(spans.end, first, "right"), np.searchsorted(spans.start, stop))
    for start, end in zip(spans.start[inside].tolist(), spans.end[inside].tolist(), strict=True):
        values[max(start - first, 0) : min(end, stop) - first] = value
