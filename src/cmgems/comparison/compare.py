"""Groups of finished runs against a baseline: final values, paired differences, steps to match.

Numbers only: `cmgems.comparison.verdict`, `cmgems.comparison.matrix` and `cmgems.comparison.tables`
put them into words.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cmgems.comparison.differences import Difference, FinalValues, difference, final_values
from cmgems.comparison.metrics import (
    Metric,
    aligned_curves,
    budget_curves,
    common_metrics,
    measured_budgets,
)
from cmgems.comparison.records import Group, ReferenceScore, RunCollection, varied_keys
from cmgems.comparison.steps_to_match import StepsToMatch, estimate_steps_to_match
from cmgems.errors import UserError
from cmgems.runs.folder import WINDOW_SUMS
from cmgems.utils.intervals import holm_correction, mean_interval
from cmgems.utils.rng import derive_key

# Runs that differ in one of these are validated on other windows, or on other tokens.
VALIDATION_KEYS = (
    "data.genome",
    "data.genomes",
    "data.regions",
    "data.exclude",
    "data.validation_contigs",
    "data.test_contigs",
    "data.tokenization",
    "data.k",
    "data.window_length",
    "data.min_window_length",
    "data.full_length_fraction",
    "data.validation_fraction",
    "data.validation_block",
    "validation.windows",
    "validation.final_windows",
    "validation.judge_windows",
    "masking.center_rate",
    "pmi.table",
)


class Contrast(NamedTuple):
    """A group against the baseline."""

    group: Group
    difference: Difference
    steps_to_match: StepsToMatch | None  # None where the baseline ends no better than it began


class MetricResults(NamedTuple):
    """All groups by one metric."""

    finals: list[FinalValues]  # one per group, in the order of the groups
    contrasts: list[Contrast]  # one per group but the baseline


@dataclass(frozen=True)
class Comparison:
    groups: list[Group]  # the baseline first
    baseline: Group
    results: dict[Metric, MetricResults]
    varied: list[str]  # config keys that differ
    warnings: list[str]
    reference_scores: list[ReferenceScore]  # of models that are not runs, by the same metrics


def compare(runs: RunCollection, baseline: str = "") -> Comparison:
    """Compare groups of runs with one of them.

    Parameters
    ----------
    runs : the finished runs, in groups
    baseline : label of a group; empty: constant `random` masks, or else the first group
    """
    base = choose_baseline(runs.groups, baseline)
    groups = [base, *(group for group in runs.groups if group is not base)]
    differences = _differences(common_metrics(groups), groups)
    results = {
        metric: _metric_results(metric, groups, found) for metric, found in differences.items()
    }
    varied = varied_keys(groups)
    warnings = _warnings(runs, varied, results)
    return Comparison(groups, base, results, varied, warnings, runs.reference_scores)


def choose_baseline(groups: list[Group], label: str) -> Group:
    if label:
        for group in groups:
            if group.label == label:
                return group
        known = ", ".join(group.label for group in groups)
        raise UserError(f"baseline: found {label!r}, wanted one of {known}")
    for group in groups:
        run = group.runs[0]
        curriculum = (run.parent or run.experiment).curriculum
        if (curriculum.schedule, curriculum.strategies) == ("constant", ("random",)):
            return group
    return groups[0]


def _improved(curves_RE: np.ndarray, metric: Metric) -> bool:
    """Whether a group is better at the end than at first, beyond its seeds."""
    gain = mean_interval(curves_RE[:, -1] - curves_RE[:, 0])
    worst = (gain.high if metric.lower_is_better else gain.low) if gain.count > 1 else gain.mean
    return bool(worst < 0) if metric.lower_is_better else bool(worst > 0)


def _differences(metrics: list[Metric], groups: list[Group]) -> dict[Metric, list[Difference]]:
    """Of each group to the first one. What is tested is corrected as one family, since a reader
    looks for a difference in all of it."""
    found = {
        metric: [difference(group, groups[0], metric) for group in groups[1:]] for metric in metrics
    }
    tested = [each.paired.p for metric in metrics if metric.is_tested for each in found[metric]]
    corrected = iter(holm_correction(tested).tolist())
    return {
        metric: [each._replace(corrected_p=next(corrected)) for each in differences]
        if metric.is_tested
        else differences
        for metric, differences in found.items()
    }


def _metric_results(
    metric: Metric, groups: list[Group], differences: list[Difference]
) -> MetricResults:
    contrasts = [
        Contrast(group, difference, _steps_to_match(group, groups[0], metric))
        for group, difference in zip(groups[1:], differences, strict=True)
    ]
    return MetricResults([final_values(group, metric) for group in groups], contrasts)


def _steps_to_match(group: Group, baseline: Group, metric: Metric) -> StepsToMatch | None:
    if measured_budgets(group, metric) and measured_budgets(baseline, metric):
        steps_E, curves_RE = budget_curves(group, metric)
        _, baseline_RE = budget_curves(baseline, metric)
    else:
        # To the end of the curve: final values are measured on other windows.
        steps_E, curves_RE = aligned_curves(group, metric)
        _, baseline_RE = aligned_curves(baseline, metric)
    if not _improved(baseline_RE, metric):
        return None  # an untrained model matches it
    target_R = baseline_RE[:, -1]
    rng = np.random.default_rng(derive_key(0, f"match {metric.tag} {group.label}"))
    return estimate_steps_to_match(
        steps_E,
        curves_RE,
        target_R,
        paired=group.seeds == baseline.seeds,
        rng=rng,
        lower_is_better=metric.lower_is_better,
    )


def _unpaired_windows(groups: list[Group], results: dict[Metric, MetricResults]) -> list[str]:
    """Where runs that know their windows cannot be paired by them."""
    titles = [
        metric.title
        for metric, found in results.items()
        if any(metric.sums in run.window_sums for group in groups for run in group.runs)
        if any(len(c.difference.seeds) > 1 and not c.difference.windows for c in found.contrasts)
    ]
    if not titles:
        return []
    return [f"over seeds alone, since {WINDOW_SUMS} is not alike in all runs: {'; '.join(titles)}"]


def _warnings(
    collection: RunCollection, varied: list[str], results: dict[Metric, MetricResults]
) -> list[str]:
    lines = [f"{path}: not finished, left out" for path in collection.unfinished]
    runs = [run for group in collection.groups for run in group.runs]
    lines += [
        f"{key} differs: the runs are not validated alike, their results do not compare"
        for key in VALIDATION_KEYS
        if key in varied
    ]
    is_named = {"data.genome", "data.genomes"} & {*varied}
    if len({run.results["genome"]["sha256"] for run in runs}) > 1 and not is_named:
        lines.append("the genome differs under one name: the results do not compare")
    if len({run.results["git_revision"] for run in runs}) > 1:
        lines.append("the runs come from different revisions of the code")
    scored_tags = {tag for run in runs for tag in run.curves if tag.startswith("scored_")}
    for tag in sorted(scored_tags):
        count = sum(tag in run.curves for run in runs)
        if count < len(runs):
            name = tag.removeprefix("scored_")
            lines.append(f"{name} is known of {count} of {len(runs)} runs, left out")
    lines += _unpaired_windows(collection.groups, results)
    single = [group.label for group in collection.groups if len(group.runs) < 2]
    if single:
        lines.append(f"one seed only, so no interval: {', '.join(single)}")
    return lines
