"""Which bases of a genome are in repeats: told by counting, without an annotation.

A base is in a repeat if one of the words of 16 bases over it stands at 10 places of the genome or
more, on either strand, its own place included. (A word that is its own reverse complement is
counted once per place.) In human DNA these are Alu and L1, satellites and simple repeats: what is
found there again can be copied by counting alone.

Words are counted exactly and in bounded memory: small counters, which different words may share,
leave out nearly all that are rare; the others are sorted, in parts.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmgems.genome.genome import Genome
from cmgems.utils.files import atomic_write
from cmgems.utils.kernels import kernel
from cmgems.utils.progress import progress_bar

WORD = 16  # bases, which fill 32 bits
MIN_COPIES = 10  # places at which a word of a repeat stands
VERSION = 1  # to be raised whenever the same genome gets other bits
_MAX_COUNTER_BITS = 30  # 2 ** 30 counters of a byte
_PART = 1 << 25  # words that are sorted at a time, about
_CHUNK = 1 << 24  # bases between two steps of the progress bar
_SPREAD = np.uint64(0x9E3779B1)  # odd: multiplication by it maps words of 32 bits one to one


class Repeats(NamedTuple):
    """A bit per base of a genome's codes, the first base in the highest bit of a byte."""

    bits: np.ndarray  # uint8 [ceil(n / 8)], may be a memory map

    def holds(self, start: int, length: int) -> np.ndarray:
        """bool [length]: whether each base from `start` on is in a repeat."""
        first = start // 8
        part = np.asarray(self.bits[first : (start + length + 7) // 8])
        return np.unpackbits(part)[start - 8 * first :][:length].view(bool)


def genome_repeats(genome: Genome) -> Repeats:
    """The repeats of a genome, cached in its store if it can be written to."""
    path = _cache_path(genome)
    with contextlib.suppress(OSError, ValueError, EOFError):  # not there, or damaged: find them
        cached = np.load(path, mmap_mode="r", allow_pickle=False)
        if cached.shape == (-(-len(genome.codes) // 8),) and cached.dtype == np.uint8:
            return Repeats(cached)
    bits = find_repeats(genome.codes)
    with contextlib.suppress(OSError):  # a store that we may not write to
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path, "wb") as handle:
            np.save(handle, bits)
    return Repeats(bits)


def _cache_path(genome: Genome) -> Path:
    text = f"{genome.sha256} {WORD} {MIN_COPIES} {VERSION}"
    return genome.path / "repeats" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.npy"


def find_repeats(codes: np.ndarray) -> np.ndarray:
    """uint8 [ceil(n / 8)]: the bits of `Repeats`.

    Parameters
    ----------
    codes : uint8 [n], A T C G = 0 1 2 3, anything else 4
    """
    counter_bits = min(max(len(codes), 2).bit_length() + 1, _MAX_COUNTER_BITS)
    counters = np.zeros(1 << counter_bits, np.uint8)
    for _, run in _chunks(codes):
        _count(run, counters, 32 - counter_bits)
    by_byte = np.zeros(256, np.int64)  # words that may be frequent, by their highest byte
    for _, run in _chunks(codes):
        _count_candidates(run, counters, 32 - counter_bits, by_byte)
    part_bits = _part_bits(by_byte, len(codes))
    sizes = by_byte.reshape(1 << part_bits, -1).sum(1)
    bits = np.zeros(-(-len(codes) // 8), np.uint8)
    with progress_bar(len(sizes), "finding repeats", " parts") as advance:
        for part, size in enumerate(sizes.tolist()):
            matches, filled = np.empty(size, np.uint64), 0
            for first, run in _chunks(codes):
                filled = _collect(
                    run, first, counters, 32 - counter_bits, part, part_bits, matches, filled
                )
            matches.sort()
            _mark(matches, 32 + part_bits, bits)
            advance(1)
    return bits


def _chunks(codes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Stretches in which each word of the sequence ends once, and where they begin."""
    for first in range(0, len(codes), _CHUNK):
        begin = max(first - WORD + 1, 0)
        yield begin, np.asarray(codes[begin : first + _CHUNK])


def _part_bits(by_byte: np.ndarray, bases: int) -> int:
    """The parts, as a power of two, that words are told apart into by their highest bits: few
    enough words for memory in each, and room for a position next to the bits that are left."""
    for part_bits in range(max(bases.bit_length() - 32, 0), 8):
        if by_byte.reshape(1 << part_bits, -1).sum(1).max() <= _PART:
            return part_bits
    return 8


@kernel
def _roll(forward: np.uint64, reverse: np.uint64, code: np.uint8) -> tuple[np.uint64, np.uint64]:
    """A word and its reverse complement, moved on by a base."""
    base = np.uint64(code & 3)
    forward = (forward << np.uint64(2) | base) & np.uint64(0xFFFFFFFF)
    return forward, reverse >> np.uint64(2) | (base ^ np.uint64(1)) << np.uint64(30)


@kernel
def _spread(forward: np.uint64, reverse: np.uint64) -> np.uint64:
    """One number below 2 ** 32 for each word on either strand, in no order."""
    return min(forward, reverse) * _SPREAD & np.uint64(0xFFFFFFFF)


@kernel
def _count(run: np.ndarray, counters: np.ndarray, shift: int) -> None:
    """Count the words of a stretch, in counters of which each serves several words."""
    forward, reverse, known = np.uint64(0), np.uint64(0), 0
    for i in range(len(run)):
        forward, reverse = _roll(forward, reverse, run[i])
        known = known + 1 if run[i] < 4 else 0
        if known >= WORD:
            slot = _spread(forward, reverse) >> np.uint64(shift)
            counters[slot] += counters[slot] < MIN_COPIES


@kernel
def _count_candidates(
    run: np.ndarray, counters: np.ndarray, shift: int, by_byte: np.ndarray
) -> None:
    """Count the words that may be frequent, by the highest byte of their spread."""
    forward, reverse, known = np.uint64(0), np.uint64(0), 0
    for i in range(len(run)):
        forward, reverse = _roll(forward, reverse, run[i])
        known = known + 1 if run[i] < 4 else 0
        if known >= WORD:
            spread = _spread(forward, reverse)
            by_byte[spread >> np.uint64(24)] += counters[spread >> np.uint64(shift)] >= MIN_COPIES


@kernel
def _collect(
    run: np.ndarray,
    first: int,
    counters: np.ndarray,
    shift: int,
    part: int,
    part_bits: int,
    matches: np.ndarray,
    filled: int,
) -> int:
    """Append the words of a part that may be frequent, each with the position of its last base in
    the lower bits; return how many there are then."""
    forward, reverse, known = np.uint64(0), np.uint64(0), 0
    for i in range(len(run)):
        forward, reverse = _roll(forward, reverse, run[i])
        known = known + 1 if run[i] < 4 else 0
        if known >= WORD:
            spread = _spread(forward, reverse)
            is_candidate = counters[spread >> np.uint64(shift)] >= MIN_COPIES
            if is_candidate and spread >> np.uint64(32 - part_bits) == np.uint64(part):
                # the bits that tell the part fall out at the top
                matches[filled] = spread << np.uint64(32 + part_bits) | np.uint64(first + i)
                filled += 1
    return filled


@kernel
def _mark(matches: np.ndarray, position_bits: int, bits: np.ndarray) -> None:
    """Set the bits of all bases under words that stand side by side often enough."""
    first = 0
    while first < len(matches):
        end = first + 1
        word = matches[first] >> np.uint64(position_bits)
        while end < len(matches) and matches[end] >> np.uint64(position_bits) == word:
            end += 1
        if end - first >= MIN_COPIES:
            for i in range(first, end):
                last = np.int64(
                    matches[i] & ((np.uint64(1) << np.uint64(position_bits)) - np.uint64(1))
                )
                for base in range(last - WORD + 1, last + 1):
                    bits[base >> 3] |= np.uint8(128 >> (base & 7))
        first = end
