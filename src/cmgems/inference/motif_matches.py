"""Where a motif matches: log-odds scores of a matrix against the composition of the sequences, and
the score that a random place reaches with a probability of 1e-4 (as FIMO: Grant, Bailey and Noble,
Bioinformatics 2011).

Scores are whole numbers of hundredths of a bit, so that their distribution is computed exactly.

Shapes: N bases of all sequences together, S bases of a motif, P = N - S + 1 places.
"""

import numpy as np

from cmgems.genome.alphabet import AMBIGUOUS, BASES
from cmgems.inference.motifs import Motif

P_OF_MATCH = 1e-4  # of a random place
_STEP = 100  # of a bit
_NEVER = -(1 << 24)  # the score of an unknown base: less than all others add up to


def composition(codes_N: np.ndarray) -> np.ndarray:
    """float64 [4]: how frequent each base is, on both strands together."""
    counts_4 = np.bincount(codes_N, minlength=AMBIGUOUS + 1)[: len(BASES)] + 1.0
    counts_4 = counts_4 + counts_4[[1, 0, 3, 2]]  # A and T, C and G
    return counts_4 / counts_4.sum()


def find_matches(motif: Motif, codes_N: np.ndarray, background_4: np.ndarray) -> np.ndarray:
    """bool [P]: the places at which a motif begins, on either strand.

    Parameters
    ----------
    codes_N : base codes; places with an unknown base have no match
    background_4 : the same on both strands: see `composition`
    """
    table_S4 = score_table(motif, background_4)
    least = score_of_match(table_S4, background_4)
    reverse_S4 = table_S4[::-1, [1, 0, 3, 2]]
    return (_scores(table_S4, codes_N) >= least) | (_scores(reverse_S4, codes_N) >= least)


def score_table(motif: Motif, background_4: np.ndarray) -> np.ndarray:
    """int32 [S, 4]: 100 log2(p / background), with one more observation that is shared out like the
    background."""
    counts_S4 = motif.counts + background_4
    p_S4 = counts_S4 / counts_S4.sum(1, keepdims=True)
    return np.rint(_STEP * np.log2(p_S4 / background_4)).astype(np.int32)


def score_of_match(table_S4: np.ndarray, background_4: np.ndarray) -> int:
    """The least score that random bases reach with a probability of at most `P_OF_MATCH`; the
    highest score, where that alone is more probable (of motifs of 6 bases and fewer)."""
    lowest = int(table_S4.min(1).sum())
    p = np.ones(1)  # of each sum of scores from the lowest on
    for scores_4 in table_S4:
        above_4 = scores_4 - scores_4.min()
        added = np.zeros(len(p) + int(above_4.max()))
        for score, share in zip(above_4.tolist(), background_4.tolist(), strict=True):
            added[score : score + len(p)] += share * p
        p = added
    at_least = p[::-1].cumsum()[::-1]
    fits = np.flatnonzero(at_least <= P_OF_MATCH)
    return lowest + (int(fits[0]) if len(fits) else len(p) - 1)


def _scores(table_S4: np.ndarray, codes_N: np.ndarray) -> np.ndarray:
    """int32 [P]: the score of a motif at each place."""
    size = len(table_S4)
    table_S5 = np.pad(table_S4, ((0, 0), (0, 1)), constant_values=_NEVER)
    score_P = np.zeros(max(len(codes_N) - size + 1, 0), np.int32)
    for number, scores_5 in enumerate(table_S5):
        score_P += scores_5[codes_N[number : number + len(score_P)]]
    return score_P
