"""Groups of finished runs against a baseline: final values, paired differences, steps to match.

Numbers only: `cmgems.comparison.verdict` and `cmgems.comparison.tables` put them into words.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cmgems.comparison.metrics import (
    Metric,
    aligned_curves,
    budget_curves,
    common_metrics,
    final_value,
    measured_budgets,
)
from cmgems.comparison.records import Group, ReferenceScore, RunCollection, varied_keys
from cmgems.comparison.steps_to_match import StepsToMatch, estimate_steps_to_match
from cmgems.errors import UserError
from cmgems.utils.intervals import (
    Interval,
    PairedDifference,
    holm_correction,
    mean_interval,
    paired_t_test,
)
from cmgems.utils.rng import derive_key

# Runs that differ in one of these are validated on other windows, or on other tokens.
VALIDATION_KEYS = (
    "data.genome",
    "data.tokenization",
    "data.k",
    "data.window_length",
    "data.min_window_length",
    "data.full_length_fraction",
    "data.validation_fraction",
    "data.validation_block",
    "validation.windows",
    "validation.final_windows",
    "masking.center_rate",
    "pmi.table",
)


class FinalValues(NamedTuple):
    """A metric of a group at the end of its runs."""

    values: list[float]  # in the order of the seeds
    interval: Interval


class Difference(NamedTuple):
    """A group less the baseline, at the end, over the seeds that both have."""

    seeds: list[int]
    paired: PairedDifference
    corrected_p: float  # for the number of groups that are compared by this metric


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
    results = {metric: _metric_results(metric, groups) for metric in common_metrics(groups)}
    varied = varied_keys(groups)
    warnings = _warnings(runs, varied)
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


def improved(group: Group, metric: Metric) -> bool:
    """Whether a group is better at the end than at its first validation, beyond its seeds."""
    _, curves_RE = aligned_curves(group, metric)
    return _improved(curves_RE, metric)


def _improved(curves_RE: np.ndarray, metric: Metric) -> bool:
    gain = mean_interval(curves_RE[:, -1] - curves_RE[:, 0])
    worst = (gain.high if metric.lower_is_better else gain.low) if gain.count > 1 else gain.mean
    return bool(worst < 0) if metric.lower_is_better else bool(worst > 0)


def _metric_results(metric: Metric, groups: list[Group]) -> MetricResults:
    baseline, others = groups[0], groups[1:]
    pairs = [_pair_by_seed(group, baseline, metric) for group in others]
    tests = [paired_t_test(pair.values, pair.baseline_values) for pair in pairs]
    corrected = holm_correction([test.p for test in tests])
    differences = [
        Difference(pair.seeds, test, float(p))
        for pair, test, p in zip(pairs, tests, corrected, strict=True)
    ]
    contrasts = [
        Contrast(group, difference, _steps_to_match(group, baseline, metric))
        for group, difference in zip(others, differences, strict=True)
    ]
    return MetricResults([_final_values(group, metric) for group in groups], contrasts)


def _final_values(group: Group, metric: Metric) -> FinalValues:
    values = [final_value(run, metric) for run in group.runs]
    return FinalValues(values, mean_interval(values))


class _SeedPairs(NamedTuple):
    """Final values of a group and of the baseline at the seeds that both have; nan if none."""

    seeds: list[int]
    values: list[float]
    baseline_values: list[float]


def _pair_by_seed(group: Group, baseline: Group, metric: Metric) -> _SeedPairs:
    values = {run.experiment.seed: final_value(run, metric) for run in group.runs}
    baseline_values = {run.experiment.seed: final_value(run, metric) for run in baseline.runs}
    seeds = sorted(set(values) & set(baseline_values))
    if not seeds:
        return _SeedPairs([], [np.nan], [np.nan])
    return _SeedPairs(
        seeds, [values[seed] for seed in seeds], [baseline_values[seed] for seed in seeds]
    )


def _steps_to_match(group: Group, baseline: Group, metric: Metric) -> StepsToMatch | None:
    if measured_budgets(group) and measured_budgets(baseline):
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


def _warnings(collection: RunCollection, varied: list[str]) -> list[str]:
    lines = [f"{path}: not finished, left out" for path in collection.unfinished]
    runs = [run for group in collection.groups for run in group.runs]
    lines += [
        f"{key} differs: the runs are not validated alike, their results do not compare"
        for key in VALIDATION_KEYS
        if key in varied
    ]
    if len({run.results["genome"]["sha256"] for run in runs}) > 1 and "data.genome" not in varied:
        lines.append("the genome differs under one name: the results do not compare")
    if len({run.results["git_revision"] for run in runs}) > 1:
        lines.append("the runs come from different revisions of the code")
    scored_tags = {tag for run in runs for tag in run.curves if tag.startswith("scored_")}
    for tag in sorted(scored_tags):
        count = sum(tag in run.curves for run in runs)
        if count < len(runs):
            name = tag.removeprefix("scored_")
            lines.append(f"{name} is known of {count} of {len(runs)} runs, left out")
    single = [group.label for group in collection.groups if len(group.runs) < 2]
    if single:
        lines.append(f"one seed only, so no interval: {', '.join(single)}")
    return lines
