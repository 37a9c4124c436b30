"""UCSC 2bit files as pieces of base codes.

Format (https://genome.ucsc.edu/FAQ/FAQformat.html#format7): a header of four 32-bit integers
(signature, version 0, number of sequences, 0), an index (name length, name, offset) and for each
sequence: bases, N blocks (starts, sizes), mask blocks (starts, sizes), 0, and the bases packed
four in a byte, the first in the highest two bits, T C A G = 0 1 2 3. The signature tells the
order of bytes.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.formats.base import Segment, SequenceChunk

SIGNATURES = {b"\x1a\x41\x27\x43": ">", b"\x43\x27\x41\x1a": "<"}  # and the order of bytes
PIECE = 1 << 22  # bases
OTHER = 4
_AGAIN = "fetch it again, or make it again with faToTwoBit"


def _unpacking_table() -> np.ndarray:
    """Byte -> its four base codes, uint8 [256, 4]."""
    ours = np.array([1, 2, 0, 3], np.uint8)  # T C A G
    packed = np.arange(256)
    return np.stack([ours[packed >> shift & 3] for shift in (6, 4, 2, 0)], axis=1)


class _File:
    """The bytes of a 2bit file; whatever lies past the end is told, not read."""

    def __init__(self, path: Path, handle, order: str):
        self.path, self.handle, self.order = path, handle, order
        self.size = handle.seek(0, 2)

    def need(self, at: int, count: int, what: str) -> None:
        if at + count > self.size:
            raise UserError(
                f"{self.path}: the 2bit file is truncated or damaged: {what} should be at bytes"
                f" {at} to {at + count}, the file has {self.size}; {_AGAIN}"
            )

    def bytes(self, at: int, count: int, what: str) -> bytes:
        self.need(at, count, what)
        self.handle.seek(at)
        parts = []
        while count and (part := self.handle.read(count)):
            parts.append(part)
            count -= len(part)
        if count:
            raise UserError(f"{self.path}: became shorter while it was read")
        return b"".join(parts)

    def integers(self, at: int, count: int, what: str) -> np.ndarray:
        return np.frombuffer(self.bytes(at, 4 * count, what), f"{self.order}u4").astype(np.int64)


def read_twobit(path: Path, handle, advance: Callable[[int], object]) -> Iterator[SequenceChunk]:
    handle.seek(0)
    order = SIGNATURES[handle.read(4)]
    file = _File(path, handle, order)
    _, version, count, _ = file.integers(0, 4, "the header").tolist()
    if version != 0:
        raise UserError(f"{path}: is 2bit version {version}; wanted: version 0")
    for number, (name, at) in enumerate(_index(file, count), 1):
        yield from _sequence(file, number, name, at, advance)


def _index(file: _File, count: int) -> list[tuple[str, int]]:
    at, entries = 16, []
    for number in range(1, count + 1):
        length = file.bytes(at, 1, f"entry {number} of the index")[0]
        entry = file.bytes(at + 1, length + 4, f"entry {number} of the index")
        try:
            name = entry[:length].decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{file.path}: name {number} of the index is not UTF-8 text") from error
        if not name or name.split() != [name]:
            raise UserError(f"{file.path}: name {number} of the index is {name!r}; {_AGAIN}")
        entries.append((name, int(np.frombuffer(entry[length:], f"{file.order}u4")[0])))
        at += 1 + length + 4
    return entries


def _blocks(file: _File, at: int, what: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Starts, sizes and the offset behind them."""
    count = int(file.integers(at, 1, what)[0])
    both = file.integers(at + 4, 2 * count, what)
    return both[:count], both[count:], at + 4 + 8 * count


def _sequence(file: _File, number: int, name: str, at: int, advance) -> Iterator[SequenceChunk]:
    what = f"the head of {name!r}"
    size = int(file.integers(at, 1, what)[0])
    starts, sizes, after = _blocks(file, at + 4, f"the N blocks of {name!r}")
    ends = starts + sizes
    if np.any(ends > size) or np.any(starts[1:] < ends[:-1]):
        raise UserError(f"{file.path}: the N blocks of {name!r} overlap or pass its end; {_AGAIN}")
    _, _, after = _blocks(file, after, f"the mask blocks of {name!r}")
    bases = after + 4
    file.need(bases, -(-size // 4), f"the sequence of {name!r}")
    table = _unpacking_table()
    place = f"sequence {number} of its index"
    for start in range(0, max(size, 1), PIECE):
        stop = min(start + PIECE, size)
        packed = file.bytes(
            bases + start // 4, -(-(stop - start) // 4), f"the sequence of {name!r}"
        )
        first = int(start == 0)  # room for the code 4 before the contig
        codes = np.empty(first + 4 * len(packed), np.uint8)
        codes[:first] = OTHER
        codes[first:] = table[np.frombuffer(packed, np.uint8)].ravel()
        codes = codes[: first + stop - start]
        inside = slice(np.searchsorted(ends, start, "right"), np.searchsorted(starts, stop))
        for n_start, n_stop in zip(starts[inside], ends[inside], strict=True):
            codes[first + max(n_start - start, 0) : first + min(n_stop, stop) - start] = OTHER
        advance(len(packed))
        n_count = int(np.count_nonzero(codes[first:] == OTHER))
        yield SequenceChunk(
            codes, [Segment(name if first else None, first, len(codes), n_count, 0, place)]
        )
