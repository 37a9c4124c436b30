"""How often the surroundings of a hidden base stand in the training DNA.

A repeat can be copied from training by counting alone; in DNA without a copy there something about
DNA has to be known. What is measured of hidden bases is therefore told apart by copies.

The copies of a hidden base: of the two words of 16 bases next to its run of hidden bases, on the
left and on the right, the one that is found more often in the training DNA, at how many places, on
either strand. (A word that is its own reverse complement is counted once per place.) The words are
those of the DNA, hidden bases of other runs included. A word that would reach beyond its window or
over an unknown base is not looked for, and a run without any word has no copies known: -1.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from cmgems.genome.spans import Spans
from cmgems.utils.cores import available_cores
from cmgems.utils.kernels import kernel

WORD = 16  # bases of a flanking word, which fills 32 bits
_CHUNK = 1 << 22  # bases that a thread looks through at a time
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # multiplication by it spreads words over a table


class Stratum(NamedTuple):
    """Hidden bases with a number of copies from `low` to `high`, both included."""

    low: int
    high: int | None  # None: no limit

    def holds(self, copies_H: np.ndarray) -> np.ndarray:
        """bool [H]: the bases that belong to it."""
        low_enough_H = True if self.high is None else copies_H <= self.high
        return (copies_H >= self.low) & low_enough_H


STRATA = {
    "all": Stratum(-1, None),  # those without a known number of copies too
    "unique": Stratum(0, 0),
    "copies_1_to_2": Stratum(1, 2),
    "copies_3_to_9": Stratum(3, 9),
    "repeats": Stratum(10, None),
}


def copies_of_bases(
    codes: np.ndarray, spans: Spans, codes_BL: np.ndarray, counted_BL: np.ndarray
) -> np.ndarray:
    """int64 [H]: the copies of each counted base in the training DNA, -1 where not known.

    Parameters
    ----------
    codes : uint8 [n], base codes of the genome
    spans : the training DNA
    codes_BL : uint8 [B, L], base codes of windows, above 3 where there is none
    counted_BL : bool [B, L], whole runs of hidden bases
    """
    run_H, words_R2 = flanking_words(codes_BL, counted_BL)
    wanted = np.unique(words_R2[words_R2 >= 0])
    counts = count_words_on_both_strands(codes, spans, wanted.astype(np.uint32))
    copies_R2 = np.full(words_R2.shape, -1, np.int64)
    known_R2 = words_R2 >= 0
    copies_R2[known_R2] = counts[np.searchsorted(wanted, words_R2[known_R2])]
    return copies_R2.max(1, initial=-1)[run_H]


class FlankingWords(NamedTuple):
    run_H: np.ndarray  # int64: the run to which each counted base belongs
    words_R2: np.ndarray  # int64: words on the left and on the right of each run, -1 for none


def flanking_words(codes_BL: np.ndarray, counted_BL: np.ndarray) -> FlankingWords:
    """The words next to each run of counted bases, each as the lower of itself and its reverse
    complement."""
    padded_BL = np.pad(counted_BL.astype(np.int8), ((0, 0), (1, 1)))
    row_R, first_R = np.nonzero(np.diff(padded_BL, axis=1) == 1)
    _, end_R = np.nonzero(np.diff(padded_BL, axis=1) == -1)
    words_R2 = np.empty((len(row_R), 2), np.int64)
    _read_words(codes_BL, row_R, first_R - WORD, words_R2[:, 0])
    _read_words(codes_BL, row_R, end_R, words_R2[:, 1])
    return FlankingWords(np.repeat(np.arange(len(row_R)), end_R - first_R), words_R2)


@kernel
def _read_words(
    codes_BL: np.ndarray, row_R: np.ndarray, start_R: np.ndarray, word_R: np.ndarray
) -> None:
    for run in range(len(row_R)):
        start, row = start_R[run], codes_BL[row_R[run]]
        word_R[run] = -1
        if start < 0 or start + WORD > len(row):
            continue
        forward, reverse, known = np.uint64(0), np.uint64(0), 0
        for i in range(WORD):
            code = np.uint64(row[start + i])
            if code < 4:
                known += 1
            forward = forward << np.uint64(2) | code
            reverse |= (code ^ np.uint64(1)) << np.uint64(2 * i)
        if known == WORD:
            word_R[run] = min(forward, reverse)


class _WordTable(NamedTuple):
    """The wanted words, to be found by hashing: open addressing, behind a filter of single bits."""

    slots: np.ndarray  # int64, a power of two: number of a word, or -1
    filter: np.ndarray  # uint8, a power of two: bits, set where a wanted word falls
    words: np.ndarray  # uint32 [Q]


def count_words_on_both_strands(codes: np.ndarray, spans: Spans, words: np.ndarray) -> np.ndarray:
    """Count words of 16 bases in spans of a genome: only these, so memory grows with their number.

    Parameters
    ----------
    codes : uint8 [n], A T C G = 0 1 2 3, anything else 4
    spans : Spans
    words : uint32 [Q], all different; first base highest, each not above its reverse complement

    Returns
    -------
    int64 [Q]: places in the spans at which the word or its reverse complement stands
    """
    table = _make_table(words)
    chunks = [
        (first, min(first + _CHUNK + WORD - 1, end))
        for start, end in zip(spans.start.tolist(), spans.end.tolist(), strict=True)
        for first in range(start, end, _CHUNK)
    ]

    def count(part: list[tuple[int, int]]) -> np.ndarray:
        counts = np.zeros(len(words), np.int64)
        for first, end in part:
            _count_in(np.asarray(codes[first:end]), *table, counts)
        return counts

    threads = available_cores()
    with ThreadPoolExecutor(threads) as pool:
        return np.sum(list(pool.map(count, [chunks[i::threads] for i in range(threads)])), axis=0)


def _make_table(words: np.ndarray) -> _WordTable:
    size = 1 << max(2 * len(words), 8).bit_length()
    slots = np.full(size, -1, np.int64)
    bits = np.zeros(4 * size // 8, np.uint8)
    _insert(words, slots, bits)
    return _WordTable(slots, bits, words)


@kernel
def _insert(words: np.ndarray, slots: np.ndarray, bits: np.ndarray) -> None:
    for number in range(len(words)):
        spread = np.uint64(words[number]) * _SPREAD >> np.uint64(20)
        bit = spread & np.uint64(8 * len(bits) - 1)
        bits[bit >> np.uint64(3)] |= np.uint8(1) << np.uint8(bit & np.uint64(7))
        slot = spread & np.uint64(len(slots) - 1)
        while slots[slot] >= 0:
            slot = slot + np.uint64(1) & np.uint64(len(slots) - 1)
        slots[slot] = number


@kernel
def _count_in(
    run: np.ndarray, slots: np.ndarray, bits: np.ndarray, words: np.ndarray, counts: np.ndarray
) -> None:
    """Count the words of a stretch of base codes."""
    forward, reverse, known = np.uint64(0), np.uint64(0), 0
    for i in range(len(run)):
        code = np.uint64(run[i])
        known = known + 1 if code < 4 else 0
        forward = (forward << np.uint64(2) | code & np.uint64(3)) & np.uint64(0xFFFFFFFF)
        reverse = reverse >> np.uint64(2) | ((code ^ np.uint64(1)) & np.uint64(3)) << np.uint64(30)
        if known < WORD:
            continue
        word = min(forward, reverse)
        spread = word * _SPREAD >> np.uint64(20)
        bit = spread & np.uint64(8 * len(bits) - 1)
        if not bits[bit >> np.uint64(3)] >> np.uint8(bit & np.uint64(7)) & np.uint8(1):
            continue
        slot = spread & np.uint64(len(slots) - 1)
        while slots[slot] >= 0 and words[slots[slot]] != word:
            slot = slot + np.uint64(1) & np.uint64(len(slots) - 1)
        if slots[slot] >= 0:
            counts[slots[slot]] += 1
