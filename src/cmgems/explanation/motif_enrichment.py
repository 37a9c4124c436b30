"""Which motifs match where the importance of bases is high, more often than by chance.

A place is as wide as the motif; its score is the mean importance of its bases, and it is high if
it is among the highest 5 % of all places. By chance the matches of a sequence are as likely to be
anywhere in it: all rotations of its places against its scores are equally probable, so neither the
distances of matches nor those of high scores count. Of that the number of high matches has an exact
distribution, which gives the p-value; q-values are those of Benjamini and Hochberg over all motifs.

Shapes: N bases of all sequences together, with an unknown one behind each, P places.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import false_discovery_control

from cmgems.explanation.arrays import Arrays, unstack
from cmgems.explanation.substitutions import importance
from cmgems.genome.alphabet import AMBIGUOUS
from cmgems.inference.motif_matches import composition, find_matches
from cmgems.inference.motifs import Motif
from cmgems.utils.escapes import table_field
from cmgems.utils.files import atomic_write
from cmgems.utils.progress import progress_bar

HIGH = 0.05  # fraction of the places that count as high
COLUMNS = ("motif", "consensus", "matches", "high", "expected", "ratio", "p", "q")


class ScoredBases(NamedTuple):
    """All sequences, one after the other."""

    codes_N: np.ndarray  # uint8
    importance_N: np.ndarray  # float64; nan at unknown bases
    starts: np.ndarray  # int64: the first base of each sequence, and the end


class Enrichment(NamedTuple):
    """What is said of a motif."""

    motif: Motif
    matches: int  # places at which it is, on either strand
    high: int  # of them, where the score is high
    expected: float  # high ones by chance
    p: float  # of as many high ones or more, by chance
    q: float

    @property
    def row(self) -> tuple[str, ...]:
        """Its cells below `COLUMNS`."""
        ratio = f"{self.high / self.expected:.2f}" if self.expected else "-"
        return (
            self.motif.name,
            self.motif.consensus,
            f"{self.matches}",
            f"{self.high}",
            f"{self.expected:.2f}",
            ratio,
            f"{self.p:.2g}",
            f"{self.q:.2g}",
        )


def collect(parts: Iterable[Arrays]) -> ScoredBases:
    """The bases and importances of all explanations."""
    codes: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    for arrays in parts:
        for each in unstack(arrays):
            codes += [each.codes, np.full(1, AMBIGUOUS, np.uint8)]
            scores += [importance(each.effects), np.full(1, np.nan)]
    lengths = [len(each) + 1 for each in codes[::2]]
    starts = np.cumsum([0, *lengths])
    return ScoredBases(np.concatenate(codes), np.concatenate(scores), starts)


def enrichments(bases: ScoredBases, motifs: Sequence[Motif]) -> list[Enrichment]:
    """Of each motif, the most surprising first."""
    background_4 = composition(bases.codes_N)
    found = []
    with progress_bar(len(motifs), "matching", " motifs") as advance:
        for motif in motifs:
            found.append(_enrichment(bases, motif, background_4))
            advance(1)
    q = false_discovery_control([each.p for each in found])
    found = [each._replace(q=float(value)) for each, value in zip(found, q, strict=True)]
    return sorted(found, key=lambda each: (each.p, -each.high))


def write_table(found: Sequence[Enrichment], out: Path) -> None:
    with atomic_write(out, "wb") as handle:
        for row in (COLUMNS, *(each.row for each in found)):
            handle.write(("\t".join(map(table_field, row)) + "\n").encode())


def _enrichment(bases: ScoredBases, motif: Motif, background_4: np.ndarray) -> Enrichment:
    score_P = _mean_over(bases.importance_N, len(motif.codes))
    valid_P = ~np.isnan(score_P)
    if not valid_P.any():
        return Enrichment(motif, 0, 0, 0.0, 1.0, 1.0)
    match_P = find_matches(motif, bases.codes_N, background_4) & valid_P
    high_P = score_P >= np.quantile(score_P[valid_P], 1 - HIGH, method="higher")
    expected, by_chance = 0.0, [np.ones(1)]
    sequence = np.searchsorted(bases.starts, np.flatnonzero(match_P), "right") - 1
    for number in np.unique(sequence).tolist():
        start, end = bases.starts[number : number + 2]
        places = np.flatnonzero(valid_P[start:end]) + start
        match, high = match_P[places], high_P[places]
        expected += match.sum() * high.mean()
        by_chance.append(_rotated(np.flatnonzero(match), high))
    seen = int((match_P & high_P).sum())
    p = float(np.clip(_sum_of(by_chance)[seen:].sum(), 0, 1))
    return Enrichment(motif, int(match_P.sum()), seen, float(expected), p, 1.0)


def _mean_over(values_N: np.ndarray, width: int) -> np.ndarray:
    """float64 [P]: the mean of so many values from each on; nan if one of them is."""
    if len(values_N) < width:
        return np.empty(0)
    windows = np.lib.stride_tricks.sliding_window_view(values_N, width)
    return windows.mean(1)


def _rotated(match: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The probability of each number of high matches, over all rotations of a sequence's places.

    Parameters
    ----------
    match : the numbers of the places that match
    high : bool, of all places
    """
    rotated = (match[:, None] + np.arange(len(high))) % len(high)
    return np.bincount(high[rotated].sum(0), minlength=len(match) + 1) / len(high)


def _sum_of(distributions: list[np.ndarray]) -> np.ndarray:
    """The distribution of the sum of independent numbers: of two, of their sums, and so on."""
    while len(distributions) > 1:
        pairs = zip(distributions[::2], distributions[1::2], strict=False)
        rest = distributions[-1:] if len(distributions) % 2 else []
        distributions = [np.convolve(a, b) for a, b in pairs] + rest
    return distributions[0]
