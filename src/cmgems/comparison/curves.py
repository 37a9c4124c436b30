"""What is drawn of a comparison: curves amid training; of branches, the ends of budgets too."""

from typing import NamedTuple

import numpy as np

from cmgems.comparison.compare import Comparison
from cmgems.comparison.metrics import (
    HEADLINES,
    Metric,
    aligned_curves,
    budget_curves,
    has_curve,
    measured_budgets,
)
from cmgems.comparison.records import Group

FIT_FROM = 0.1  # of the run: what comes before dwarfs the rest, and axes need not hold it


class Chart(NamedTuple):
    """A metric against steps."""

    metric: Metric
    of_budgets: bool  # at the ends of budgets, each with a learning rate of 0, or amid training

    @property
    def title(self) -> str:
        end = ", at the end of each budget" if self.of_budgets else ""
        return self.metric.title_with_unit + end

    def points(self, group: Group) -> tuple[np.ndarray, np.ndarray]:
        """(steps int64 [E], values float64 [R, E]) of a group."""
        return (budget_curves if self.of_budgets else aligned_curves)(group, self.metric)

    def value_range(self, groups: list[Group]) -> tuple[float, float]:
        """What an axis has to hold: the values of all seeds, but for the beginning of runs."""
        parts = []
        for group in groups:
            steps_E, curves_RE = self.points(group)
            parts.append(curves_RE[:, _is_fitted(steps_E)].ravel())
        values = np.concatenate(parts)
        edge = 0.05 * (np.ptp(values) or 1.0)
        return float(values.min() - edge), float(values.max() + edge)


def charts(comparison: Comparison) -> list[Chart]:
    """The ends of budgets first: they are what is compared."""
    curves = [metric for metric in comparison.results if has_curve(comparison.baseline, metric)]
    return [
        *(Chart(metric, of_budgets=True) for metric in metrics_with_budgets(comparison)),
        *(Chart(metric, of_budgets=False) for metric in curves),
    ]


def metrics_with_budgets(comparison: Comparison) -> list[Metric]:
    """The headlines that all groups have at the ends of two budgets or more."""
    return [
        metric
        for metric in HEADLINES
        if metric in comparison.results
        and all(measured_budgets(group, metric) for group in comparison.groups)
    ]


def _is_fitted(steps_E: np.ndarray) -> np.ndarray:
    late_E = steps_E >= FIT_FROM * steps_E[-1]
    return late_E if late_E.sum() > 1 else np.ones(len(steps_E), bool)
