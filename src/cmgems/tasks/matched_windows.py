"""Windows of a genome that belong to others: of the same composition, or next to them."""

from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from cmgems.difficulty.repeats import genome_repeats
from cmgems.genome.genome import Genome
from cmgems.genome.spans import Spans

CANDIDATES = 50  # per window that is to be matched
MIN_CANDIDATES = 20_000  # so that also a few windows of rare composition find some
MAX_DISTANCE = 0.1  # beyond it two windows do not match
MAX_SHIFTS = 20  # windows away, in either direction
_NEIGHBOURS = 32  # nearest candidates that a window chooses from at a time
_CHUNK = 4096  # stretches that are searched at a time


class Matches(NamedTuple):
    """Pairs of windows that match; M of them."""

    number: np.ndarray  # int64 [M], ascending: which of the windows have a match
    start: np.ndarray  # int64 [M], offsets of their matches in Genome.codes


def draw_matched(genome: Genome, starts: np.ndarray, candidates: np.ndarray, size: int) -> Matches:
    """For each window a candidate like it.

    Each window in its turn takes the nearest candidate that is left, in GC content and in the
    fraction of its bases in repeats. A window whose nearest is further away than 0.1 has no match.

    Parameters
    ----------
    starts : int64 [N], offsets of the windows in `Genome.codes`
    candidates : int64, offsets of windows that do not overlap one another
    size : bases of a window
    """
    matches = np.full(len(starts), -1)
    wanted, offered = (_composition(genome, at, size) for at in (starts, candidates))
    left, open_ = np.arange(len(candidates)), np.arange(len(starts))
    while len(left) and len(open_):
        near = min(_NEIGHBOURS, len(left))
        distance_NK, nearest_NK = KDTree(offered[left]).query(wanted[open_], k=range(1, near + 1))
        taken = np.zeros(len(left), bool)
        for row, (distance, nearest) in enumerate(zip(distance_NK, nearest_NK, strict=True)):
            usable = nearest[(distance <= MAX_DISTANCE) & ~taken[nearest]]
            if len(usable):
                taken[usable[0]] = True
                matches[open_[row]] = left[usable[0]]
        # All near candidates of a window may be taken by others before it: it looks again.
        again = (matches[open_] < 0) & (distance_NK[:, -1] <= MAX_DISTANCE)
        left, open_ = left[~taken], open_[again]
    number = np.flatnonzero(matches >= 0)
    return Matches(number, candidates[matches[number]])


def draw_shifted(starts: np.ndarray, free: Spans, size: int) -> Matches:
    """For each window the nearest free one that is whole windows away, at most 20; none for some.

    Parameters are those of `draw_matched` and the stretches to draw from; two windows may have the
    same.
    """
    distance = size * np.repeat(np.arange(1, MAX_SHIFTS + 1), 2) * np.tile([1, -1], MAX_SHIFTS)
    places_NK = starts[:, None] + distance
    is_free_NK = lies_in(places_NK, free, size)
    number = np.flatnonzero(is_free_NK.any(1))
    return Matches(number, places_NK[number, is_free_NK[number].argmax(1)])


def lies_in(starts: np.ndarray, stretches: Spans, size: int | np.ndarray) -> np.ndarray:
    """bool, shape of the starts: the windows that lie whole in one of the stretches.

    `size` counts the bases of all windows, or of each.
    """
    if not len(stretches.start):
        return np.zeros(starts.shape, bool)
    number = np.searchsorted(stretches.start, starts, side="right") - 1
    return (number >= 0) & (starts + size <= stretches.end[np.maximum(number, 0)])


def draw_windows(free: Spans, size: int, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """int64: starts of windows that overlap none of the others, at random.

    Parameters
    ----------
    free : the stretches to draw from
    wanted : number of windows that will be matched: 50 times as many are drawn, 20,000 or more
    """
    room = np.maximum(free.end - free.start, 0) // size
    row = np.repeat(np.arange(len(room)), room)
    number = np.arange(len(row)) - np.repeat(room.cumsum() - room, room)
    starts = free.start[row] + number * size
    return rng.permutation(starts)[: max(CANDIDATES * wanted, MIN_CANDIDATES)]


def draw_decoys(
    genome: Genome,
    free: Spans,
    size: int,
    signal: np.ndarray,
    offset: int,
    wanted: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """int64: starts of windows with a signal at a place, which overlap none of the others.

    Of each stretch of twice a window, drawn at random, one of the windows with the signal.

    Parameters
    ----------
    free, wanted : as for `draw_windows`
    signal : uint8, base codes as they are on the forward strand
    offset : where in a window the signal begins, counted on the forward strand
    """
    stretches = draw_windows(free, 2 * size, wanted, rng)
    starts = []
    for first in range(0, len(stretches), _CHUNK):
        begins = stretches[first : first + _CHUNK]
        codes_NL = np.asarray(genome.codes)[begins[:, None] + np.arange(2 * size)]
        has_signal_NS = np.ones((len(begins), size + 1), bool)
        for number, base in enumerate(signal.tolist()):
            at = offset + number
            has_signal_NS &= codes_NL[:, at : at + size + 1] == base
        order_NS = np.where(has_signal_NS, rng.random(has_signal_NS.shape, np.float32), -1)
        starts.append((begins + order_NS.argmax(1))[has_signal_NS.any(1)])
    return np.concatenate(starts) if starts else np.empty(0, np.int64)


def _composition(genome: Genome, starts: np.ndarray, size: int) -> np.ndarray:
    """float64 [N, 2]: the fraction of G and C, and of bases in repeats."""
    repeats = genome_repeats(genome)
    rows = np.empty((len(starts), 2))
    codes = np.asarray(genome.codes)
    for row, start in enumerate(starts.tolist()):
        is_gc = codes[start : start + size] >= 2
        rows[row] = is_gc.mean(), repeats.holds(start, size).mean()
    return rows
