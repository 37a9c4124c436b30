"""Markov models of DNA: what hidden bases cost a model that only counts.

A pretraining is measured beside the best of them, on the same bases.

The model of order j is P(base | j bases before it), interpolated with that of order j - 1:
P_j = (count + a P_{j-1}) / (total + a), with the weight a that predicts its own training counts
best when each base is left out of them in turn. A hidden run is predicted from both sides: the
probability of each of its 4**r fillings is that of the filling after the bases to its left times
that of the bases to its right after the filling, and a base gets the sum over the fillings with it.
"""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from cmgems.difficulty.counts import count_chunks
from cmgems.genome.spans import Spans
from cmgems.utils.kernels import kernel

WEIGHTS = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0)  # of order j - 1, in bases
MAX_ORDER = 11
_CHUNK = 1 << 22  # bases that a thread counts at a time, about


class Markov(NamedTuple):
    """An interpolated Markov model, with those of lower order that it is made of."""

    order: int
    # float32 [4], [16], ... [4**(order + 1)]: P(last | bases before)
    tables: tuple[np.ndarray, ...]
    left_out_bits: tuple[float, ...]  # of order 0, 1, ...: bits per base of the counted sequence
    # float32 [4**(order + 1)]: the last of `tables` with the word left out of the counts once; 0
    # where it does not occur
    left_out: np.ndarray


def fit(counts: tuple[np.ndarray, ...]) -> Markov:
    """Fit the best Markov model to counts of words of 1, 2, ... bases.

    Orders are compared by the bits with which they predict the counted sequence, each base left
    out in turn (of the lower orders too); nothing else is needed to choose one.
    """
    fractions = (counts[0] / max(counts[0].sum(), 1)).astype(np.float32)
    # `left_out`: the probability of a word's last base if the word had not been counted once.
    tables, left_out = [fractions], fractions
    best = left_out
    bits = [-_log_likelihood(counts[0], fractions) / max(int(counts[0].sum()), 1)]
    for words in counts[1:]:
        by_weight = {a: _left_out_log_likelihood(words, left_out, a) for a in WEIGHTS}
        weight = max(WEIGHTS, key=lambda a: by_weight[a])
        bits.append(-by_weight[weight] / max(int(words.sum()), 1))
        table, left_out = _interpolate(words, tables[-1], left_out, weight)
        tables.append(table)
        if bits[-1] < min(bits[:-1]):
            best = left_out
    order = int(np.argmin(bits))
    return Markov(order, tuple(tables[: order + 1]), tuple(bits), best)


@kernel
def _log_likelihood(words: np.ndarray, probabilities: np.ndarray) -> float:
    """Sum of count * log2(probability)."""
    total = 0.0
    for word in range(len(words)):
        if words[word]:
            total += words[word] * np.log2(probabilities[word])
    return total


@kernel
def _left_out_log_likelihood(words: np.ndarray, lower_left_out: np.ndarray, a: float) -> float:
    """Sum of count * log2(probability with one of the count left out), at the weight a."""
    total = 0.0
    for context in range(0, len(words), 4):
        total_count = words[context] + words[context + 1] + words[context + 2] + words[context + 3]
        for word in range(context, context + 4):
            if words[word]:
                below = max(lower_left_out[word % len(lower_left_out)], 1e-6)
                probability = (words[word] - 1 + a * below) / (total_count - 1 + a)
                total += words[word] * np.log2(probability)
    return total


@kernel
def _interpolate(
    words: np.ndarray, lower: np.ndarray, lower_left_out: np.ndarray, a: float
) -> tuple[np.ndarray, np.ndarray]:
    """float32 tables of the next order: P(last base | those before), and the same left out.

    A word's index without its first base (`% len(lower)`) is its index in the lower order.
    """
    table, left_out = np.empty(len(words), np.float32), np.zeros(len(words), np.float32)
    for context in range(0, len(words), 4):
        total_count = words[context] + words[context + 1] + words[context + 2] + words[context + 3]
        for word in range(context, context + 4):
            suffix = word % len(lower)
            table[word] = (words[word] + a * lower[suffix]) / (total_count + a)
            if words[word]:
                below = max(lower_left_out[suffix], 1e-6)
                left_out[word] = (words[word] - 1 + a * below) / (total_count - 1 + a)
    return table, left_out


def longest_word(bases: int) -> int:
    """Bases of the longest words that are worth counting in so many bases of DNA: where a longer
    one is found again, all but always so is the one of this length. (It is 12 from 4,097
    bases on; a tiny run is spared the large tables.)"""
    return min(MAX_ORDER + 1, math.ceil(math.log(max(bases, 1), 4)) + 5)


def count_stretches(
    codes: np.ndarray, stretches: Iterable[Spans], longest: int = MAX_ORDER + 1
) -> tuple[np.ndarray, ...]:
    """Counts of words of 1 .. `longest` bases in stretches of a genome, each as often as it is
    given."""
    codes = np.asarray(codes)  # each slice of a memory map makes a memory map, in 0.1 ms
    gap = np.full(1, 4, np.uint8)

    def chunks() -> Iterator[np.ndarray]:
        parts, size = [gap], 0
        for spans in stretches:
            for first, last in zip(spans.start.tolist(), spans.end.tolist(), strict=True):
                parts += [codes[first:last], gap]
                size += last - first
                if size >= _CHUNK:  # the many short windows of a run are counted together
                    yield np.concatenate(parts)
                    parts, size = [gap], 0
        yield np.concatenate(parts)

    return count_chunks(chunks(), longest).tables


def predict_bases(model: Markov, visible_BL: np.ndarray, wanted_BL: np.ndarray) -> np.ndarray:
    """float64 [H, 4]: the distribution of each wanted base given the visible ones around its run.

    Parameters
    ----------
    model : Markov
    visible_BL : uint8 [B, L]
        Base codes; above 3 where nothing is visible, which is as far as a context reaches.
    wanted_BL : bool [B, L]
        Bases to predict, in runs; a run takes 4**length steps.
    """
    flat = np.concatenate(model.tables)
    starts = np.array([0, *np.cumsum([len(table) for table in model.tables])])
    probabilities, done = np.zeros((int(wanted_BL.sum()), 4)), 0
    for visible, wanted in zip(visible_BL, wanted_BL, strict=True):
        edges = np.flatnonzero(np.diff(wanted.astype(np.int8), prepend=0, append=0))
        for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            rows = probabilities[done : done + end - first]
            _sum_over_fillings(flat, starts, model.order, visible, first, end, rows)
            done += end - first
    return probabilities / probabilities.sum(1, keepdims=True)


@kernel
def _sum_over_fillings(
    flat: np.ndarray,
    starts: np.ndarray,
    order: int,
    visible: np.ndarray,
    first: int,
    end: int,
    sums: np.ndarray,
) -> None:
    """Add the probability of each filling of visible[first:end], and of what follows it, to the
    bases that it consists of."""
    left = first
    while left > 0 and first - left < order and visible[left - 1] < 4:
        left -= 1
    before = np.int64(0)
    for i in range(left, first):
        before = before << 2 | np.int64(visible[i])
    right = end
    while right < len(visible) and right - end < order and visible[right] < 4:
        right += 1
    run = end - first
    for filling in range(1 << 2 * run):
        word, probability = before, 1.0
        for i in range(first, right):
            base = filling >> 2 * (end - 1 - i) & 3 if i < end else np.int64(visible[i])
            known = min(order, i - left)  # bases of context
            word = (word << 2 | base) & ((1 << 2 * (known + 1)) - 1)
            probability *= flat[starts[known] + word]
        for i in range(run):
            sums[i, filling >> 2 * (run - 1 - i) & 3] += probability


def predict_hidden(
    model: Markov, codes_BL: np.ndarray, hidden_BL: np.ndarray, wanted_BL: np.ndarray
) -> np.ndarray:
    """float64 [H, 4]: the distribution of each wanted base, given the true bases around its run as
    far as they are not hidden: hidden bases are no context, wanted or not."""
    return predict_bases(model, np.where(hidden_BL, np.uint8(4), codes_BL), wanted_BL)


def bits_of(probability_H4: np.ndarray, true_H: np.ndarray) -> np.ndarray:
    """float64 [H]: what the true bases, int 0 .. 3, cost under these distributions."""
    return -np.log2(probability_H4[np.arange(len(true_H)), true_H], dtype=np.float64)
