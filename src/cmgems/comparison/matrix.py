"""The verdict of a comparison as a matrix, experiment by measure, and what depends on the judge.

The same model may be better than the baseline under one kind of masks and worse under another. A
verdict on it is then one on the masks, and is called so.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from cmgems.comparison.compare import Comparison, Contrast
from cmgems.comparison.differences import Difference
from cmgems.comparison.metrics import HIDDEN_BITS, Metric
from cmgems.comparison.records import Group

ALPHA = 0.05
BETTER, WORSE, NOT_TOLD_APART, UNKNOWN = "better", "worse", "not told apart", "one seed only"
OUTCOMES = (BETTER, WORSE, NOT_TOLD_APART)
DEPENDS = "depends on the judge"


class Cell(NamedTuple):
    """An experiment by one measure."""

    outcome: str
    difference: Difference


class Row(NamedTuple):
    """An experiment by all measures."""

    group: Group
    cells: list[Cell]  # in the order of the measures
    outcomes: dict[str, list[Metric]]  # the judges by what they find
    summary: str  # one of OUTCOMES that all judges find, or DEPENDS, or UNKNOWN

    @property
    def never(self) -> str:
        """What no judge finds of it, where judges differ without contradicting each other."""
        if self.summary != DEPENDS:
            return ""
        return WORSE if not self.outcomes[WORSE] else BETTER if not self.outcomes[BETTER] else ""

    @property
    def summary_in_full(self) -> str:
        return f"{self.summary}, never {self.never}" if self.never else self.summary


class Matrix(NamedTuple):
    metrics: list[Metric]  # all that are tested
    judges: list[Metric]  # those of them that judge the same thing in different ways
    rows: list[Row]  # all experiments but the baseline

    @property
    def comparisons(self) -> int:
        """Those that p is corrected for."""
        return sum(cell.outcome != UNKNOWN for row in self.rows for cell in row.cells)


def verdict_matrix(comparison: Comparison) -> Matrix:
    metrics = [metric for metric in comparison.results if metric.is_tested]
    judges = [metric for metric in metrics if metric.judge]
    if not judges:  # runs without them: bits per hidden base, or else what there is
        judges = [HIDDEN_BITS] if HIDDEN_BITS in metrics else metrics[:1]
    rows = []
    for index, group in enumerate(comparison.groups[1:]):
        contrasts = {metric: comparison.results[metric].contrasts[index] for metric in metrics}
        found = {metric: outcome(contrast, metric) for metric, contrast in contrasts.items()}
        cells = [Cell(found[metric], contrasts[metric].difference) for metric in metrics]
        by_outcome = {
            each: [metric for metric in judges if found[metric] == each] for each in OUTCOMES
        }
        rows.append(Row(group, cells, by_outcome, _summary(found[metric] for metric in judges)))
    return Matrix(metrics, judges, rows)


def outcome(contrast: Contrast, metric: Metric) -> str:
    """Whether a group is better or worse than the baseline beyond chance, after correction."""
    difference = contrast.difference
    if math.isnan(difference.corrected_p):
        return UNKNOWN
    if difference.corrected_p >= ALPHA:
        return NOT_TOLD_APART
    is_lower = difference.paired.difference.mean < 0
    return BETTER if is_lower == metric.lower_is_better else WORSE


def _summary(outcomes: Iterable[str]) -> str:
    found = set(outcomes)
    if found <= {UNKNOWN}:
        return UNKNOWN
    return found.pop() if len(found) == 1 else DEPENDS


def headline(matrix: Matrix, baseline: str) -> str:
    """The whole verdict in one sentence."""
    if not matrix.rows:
        return f"{baseline} alone: nothing to compare it with."
    by_summary: dict[str, list[str]] = {}
    for row in matrix.rows:
        by_summary.setdefault(row.summary, []).append(row.group.label)
    if set(by_summary) == {UNKNOWN}:
        return f"Nothing can be concluded: fewer than two seeds in common with {baseline}."
    several = len(matrix.judges) > 1
    every, any_ = (" by every judge", " by any judge") if several else ("", "")
    words = {
        BETTER: f"better than {baseline}{every}",
        WORSE: f"worse than {baseline}{every}",
        DEPENDS: "depending on the judge",
        NOT_TOLD_APART: f"not told apart from {baseline}{any_}",
        UNKNOWN: "without two seeds in common",
    }
    clauses = [
        f"{words[summary]}: {', '.join(by_summary[summary])}"
        for summary in words
        if summary in by_summary
    ]
    title = matrix.judges[0].title
    by = f"{title}, judged in {len(matrix.judges)} ways" if several else title
    return f"By {by}: {'; '.join(clauses)}."


def dependence(row: Row, baseline: str) -> str:
    """What each judge finds of an experiment on which they differ."""
    clauses = []
    for found, metrics in row.outcomes.items():
        if metrics:
            how = f"{found} from" if found == NOT_TOLD_APART else f"{found} than"
            clauses.append(f"{how} {baseline} by {', '.join(metric.judge for metric in metrics)}")
    if row.never:
        clauses.append(f"no judge finds it {row.never}")
    return f"The verdict on {row.group.label} depends on the judge: {'; '.join(clauses)}."
