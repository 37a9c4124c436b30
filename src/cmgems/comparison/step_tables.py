"""Tables of a comparison over steps: values at the ends of budgets, steps to match the baseline."""

import math

from cmgems.comparison.compare import Comparison
from cmgems.comparison.curves import charts, metrics_with_budgets
from cmgems.comparison.metrics import (
    Metric,
    budget_curves,
    measured_budgets,
    seconds_per_step,
    tokens_per_step,
)
from cmgems.comparison.records import Group
from cmgems.comparison.steps_to_match import StepsToMatch
from cmgems.comparison.table import Table
from cmgems.comparison.verdict import format_interval
from cmgems.utils.intervals import mean_interval

NOT_REACHED = "not reached"


def step_tables(comparison: Comparison) -> list[Table]:
    """None for what is known at the end alone."""
    found = [_ends(comparison, metric) for metric in metrics_with_budgets(comparison)]
    if len(comparison.groups) > 1:
        matched = dict.fromkeys(chart.metric for chart in charts(comparison))
        found += [_steps_to_match(comparison, metric) for metric in matched]
    return found


def _ends(comparison: Comparison, metric: Metric) -> Table:
    """One row per experiment, one column per budget."""
    curves = {group.label: budget_curves(group, metric) for group in comparison.groups}
    budgets = sorted({step for steps_E, _ in curves.values() for step in steps_E.tolist()})
    rows = []
    for label, (steps_E, curves_RE) in curves.items():
        cells = {
            step: format_interval(mean_interval(values_R))
            for step, values_R in zip(steps_E.tolist(), curves_RE.T, strict=True)
        }
        rows.append([label, *(cells.get(step, "") for step in budgets)])
    better = "lower" if metric.lower_is_better else "higher"
    note = (
        f"Each of a branch of so many steps, at whose end the learning rate had fallen to 0: mean "
        f"over seeds, 95 % interval over seeds alone (Student); {better} is better."
    )
    head = ["experiment", *(f"{step:,} steps" for step in budgets)]
    return Table(f"At the end of each budget: {metric.title}", head, rows, note)


def _steps_to_match(comparison: Comparison, metric: Metric) -> Table:
    baseline = comparison.baseline
    head = ["experiment", "steps", "million tokens", "seconds", "reached"]
    title = f"Steps to match {baseline.label}: {metric.title}"
    matches = [(c.group, c.steps_to_match) for c in comparison.results[metric].contrasts]
    rows = [_steps_to_match_row(group, match) for group, match in matches if match is not None]
    if not rows:
        note = f"{baseline.label} does not end better than it began: there is nothing to match."
        return Table(title, head, [], note)
    steps = baseline.runs[0].experiment.train.max_steps
    cost = (
        f"{baseline.label} itself: {steps:,} steps, "
        f"{tokens_per_step(baseline) * steps / 1e6:.2f} million tokens, "
        f"{seconds_per_step(baseline) * steps:.0f} s"
    )
    note = (
        f"Where the mean {_curve_note(baseline, metric)} first reaches the end of that of "
        f"{baseline.label} ({cost}), and the 95 % interval over seeds (bootstrap with Student's "
        f"weights, both curves together); last column: the fraction of resamples that reach it. "
        f"Seconds are those of the machine that ran it."
    )
    return Table(title, head, rows, note)


def _curve_note(baseline: Group, metric: Metric) -> str:
    if budgets := measured_budgets(baseline, metric):
        return (
            f"line between the ends of budgets (the shortest has {budgets[0]:,} steps: what is as "
            f"good there may be so sooner)"
        )
    return (
        "curve (of one schedule of the learning rate: a shorter run, whose learning rate falls "
        "sooner, may do better at the same step)"
    )


def _steps_to_match_row(group: Group, match: StepsToMatch) -> list[str]:
    fraction = match.reached_fraction
    return [
        group.label,
        _format_match(match, 1, "{:,.0f}"),
        _format_match(match, tokens_per_step(group) / 1e6, "{:.2f}"),
        _format_match(match, seconds_per_step(group), "{:.0f}"),
        "" if math.isnan(fraction) else f"{fraction:.0%}",
    ]


def _format_match(match: StepsToMatch, unit_per_step: float, template: str) -> str:
    def text(step: float) -> str:
        return template.format(step * unit_per_step) if math.isfinite(step) else NOT_REACHED

    if math.isnan(match.low) or match.step == match.low == math.inf:
        return text(match.step)
    return f"{text(match.step)} ({text(match.low)} to {text(match.high)})"
