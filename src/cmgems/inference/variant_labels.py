"""How well scores of variants tell labelled ones apart, by the protocol of TraitGym.

AUROC and AUPRC over all variants, and the AUPRC within each chromosome, averaged with the number of
its variants as weight: scores need not be comparable between chromosomes. Its interval is that of
100 replicates, drawn with replacement within each chromosome and label.

Source: Benegas, Eraslan and Song, "Benchmarking DNA sequence models for causal regulatory variant
prediction in human genetics", bioRxiv 2025.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from cmgems.utils.text_table import text_table

REPLICATES = 100  # of the bootstrap
_TWO_SIDED_95 = 1.96  # standard errors


class LabelMetrics(NamedTuple):
    """Of one way to read the scores; `auprc_by_chromosome` is nan where no chromosome has both
    labels."""

    auroc: float
    auprc: float
    auprc_by_chromosome: float
    standard_error: float
    chromosomes: int  # that have both labels

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of `auprc_by_chromosome`."""
        reach = _TWO_SIDED_95 * self.standard_error
        return self.auprc_by_chromosome - reach, self.auprc_by_chromosome + reach


def label_metrics(
    scores: np.ndarray, labels: np.ndarray, chromosomes: Sequence[str]
) -> LabelMetrics:
    """Metrics of scores of which a larger one speaks for label 1.

    Parameters
    ----------
    scores : float64 [N]
    labels : bool [N], with both labels
    chromosomes : of each variant
    """
    names = np.unique(np.array(chromosomes), return_inverse=True)[1]
    groups = [np.flatnonzero(names == number) for number in range(names.max() + 1)]
    groups = [group for group in groups if labels[group].any() and not labels[group].all()]
    by_chromosome = _weighted_auprc(scores, labels, groups)
    drawn = [_weighted_auprc(scores, labels, part) for part in _replicates(labels, groups)]
    return LabelMetrics(
        float(roc_auc_score(labels, scores)),
        float(average_precision_score(labels, scores)),
        by_chromosome,
        float(np.std(drawn, ddof=1)) if groups else float("nan"),
        len(groups),
    )


def _weighted_auprc(scores: np.ndarray, labels: np.ndarray, groups: list[np.ndarray]) -> float:
    if not groups:
        return float("nan")
    values = [average_precision_score(labels[group], scores[group]) for group in groups]
    return float(np.average(values, weights=[len(group) for group in groups]))


def _replicates(labels: np.ndarray, groups: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """The variants of each chromosome, drawn with replacement within each label."""
    generator = np.random.default_rng(0)
    strata = [(group[labels[group]], group[~labels[group]]) for group in groups]
    for _ in range(REPLICATES):
        yield [np.concatenate([generator.choice(s, len(s)) for s in both]) for both in strata]


def describe_metrics(scores: np.ndarray, labels: np.ndarray, chromosomes: Sequence[str]) -> str:
    """A table for the reader: the scores read as they are for variants that the model finds
    unlikely (label 1 harms), and by their size (label 1 changes something, in either direction)."""
    rows: list[tuple[str, ...]] = [
        ("label 1 has", "AUROC", "AUPRC", "AUPRC by chromosome", "95 % interval")
    ]
    for title, values in (("low scores", -scores), ("large changes", np.abs(scores))):
        found = label_metrics(values, labels, chromosomes)
        low, high = found.interval
        areas = (found.auroc, found.auprc, found.auprc_by_chromosome)
        rows.append((title, *(f"{area:.3f}" for area in areas), f"{low:.3f} to {high:.3f}"))
    head = (
        f"{len(labels):,} scored variants with a label, {int(labels.sum()):,} of them 1, on "
        f"{len(set(chromosomes)):,} chromosomes, {found.chromosomes:,} of them with both labels"
    )
    return f"{head}\n{text_table(rows, '<>>>>')}"
