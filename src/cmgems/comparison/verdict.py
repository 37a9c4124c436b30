"""A comparison in sentences. Where no difference was found, the sentence says so."""

import math

from cmgems.comparison.compare import Comparison
from cmgems.comparison.matrix import DEPENDS, Matrix, dependence, headline, verdict_matrix
from cmgems.comparison.metrics import HIDDEN_BITS
from cmgems.utils.intervals import Interval


def verdict(comparison: Comparison) -> list[str]:
    """The verdict in one sentence; then, experiment by experiment, what depends on the judge; then
    how certain it is and what holds for all."""
    matrix, baseline = verdict_matrix(comparison), comparison.baseline.label
    lines = [headline(matrix, baseline)]
    lines += [dependence(row, baseline) for row in matrix.rows if row.summary == DEPENDS]
    return lines + general_verdict(comparison, matrix)


def general_verdict(comparison: Comparison, matrix: Matrix) -> list[str]:
    """How certain the matrix is, and whether a network is better than counting."""
    return _family(matrix) + _markov_verdict(comparison)


def _family(matrix: Matrix) -> list[str]:
    if not matrix.comparisons:
        return []
    return [
        f"p is corrected for all {matrix.comparisons} comparisons of the matrix (Holm): "
        f"{len(matrix.rows)} experiments by {len(matrix.metrics)} measures."
    ]


def _markov_verdict(comparison: Comparison) -> list[str]:
    """Whether any model predicts hidden bases better than a Markov model."""
    references = {
        run.results["reference"].get("markov_bits")
        for group in comparison.groups
        for run in group.runs
    } - {None}
    if HIDDEN_BITS not in comparison.results or not references:
        return []
    means = [final.interval.mean for final in comparison.results[HIDDEN_BITS].finals]
    bits, markov = min(means), max(references)
    if bits >= markov:
        return [
            f"No model beats the best Markov model ({markov:.3f} bits per hidden base; the best "
            f"model here has {bits:.3f})."
        ]
    best = comparison.groups[means.index(bits)]
    return [
        f"The best model, {best.label}, has {bits:.3f} bits per hidden base; the best Markov model "
        f"has {markov:.3f}."
    ]


def format_interval(interval: Interval, digits: int = 4) -> str:
    """`mean (low to high)`; the mean alone where there is no interval."""
    if math.isnan(interval.low):
        return f"{interval.mean:.{digits}f}"
    return f"{interval.mean:.{digits}f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"
