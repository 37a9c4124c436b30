"""Windows of a genome with the composition of others, which is then no shortcut for a model."""

import numpy as np
from scipy.spatial import KDTree

from cmgems.difficulty.repeats import genome_repeats
from cmgems.genome.genome import Genome
from cmgems.genome.spans import Spans
from cmgems.utils.rng import generator

CANDIDATES = 20  # per window that is to be matched
_NEIGHBOURS = 64  # nearest candidates that are looked at; the rest are taken already


def draw_matched(genome: Genome, starts: np.ndarray, free: Spans, size: int) -> np.ndarray:
    """int64 [at most N]: for each window the start of a free one like it, none twice.

    Of windows drawn at random, 20 per window, each in its turn takes the nearest that is left, in
    GC content and in the fraction of its bases in repeats.

    Parameters
    ----------
    starts : int64 [N], offsets of the windows in `Genome.codes`
    free : the stretches to draw from
    size : bases of a window
    """
    rng = generator(0, "matched negatives")
    candidates = _draw(free, size, CANDIDATES * len(starts), rng)
    if not len(candidates):
        return candidates
    tree = KDTree(_composition(genome, candidates, size))
    near = min(_NEIGHBOURS, len(candidates))
    _, nearest_NK = tree.query(_composition(genome, starts, size), k=range(1, near + 1))
    taken = np.zeros(len(candidates), bool)
    chosen = []
    for nearest in nearest_NK:
        left = nearest[~taken[nearest]]
        if len(left):
            taken[left[0]] = True
            chosen.append(candidates[left[0]])
    return np.array(chosen, np.int64)


def _draw(free: Spans, size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Starts of windows that overlap none of the others, at random."""
    room = (free.end - free.start) // size
    row = np.repeat(np.arange(len(room)), room)
    number = np.arange(len(row)) - np.repeat(room.cumsum() - room, room)
    starts = free.start[row] + number * size
    return rng.permutation(starts)[:count]


def _composition(genome: Genome, starts: np.ndarray, size: int) -> np.ndarray:
    """float64 [N, 2]: the fraction of G and C, and of bases in repeats."""
    repeats = genome_repeats(genome)
    rows = []
    for start in starts.tolist():
        codes = np.asarray(genome.codes[start : start + size])
        rows.append(((codes >= 2).mean(), repeats.holds(start, size).mean()))
    return np.array(rows)
