"""What a set of finished runs says: figures, differences, steps to match. No words, no layout."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cmgems.comparison.matching import Match, steps_to_match
from cmgems.comparison.records import Beside, Found, Group, Run, varied_keys
from cmgems.errors import UserError
from cmgems.utils.intervals import (
    Interval,
    PairedDifference,
    holm_correction,
    mean_interval,
    paired_t_test,
)
from cmgems.utils.rng import derive_key


class Measure(NamedTuple):
    """A figure by which models are judged. Never a training loss: it depends on the masks."""

    tag: str  # in metrics.csv
    title: str
    lower_is_better: bool
    unit: str = ""


HIDDEN_BITS = Measure("validation_random_wide/hidden_base_bits", "bits a hidden base", True, "bits")
FIXED = (
    HIDDEN_BITS,
    Measure("validation_random/loss", "loss, random masks", True, "nats"),
    Measure("validation_random_wide/loss", "loss, wide random masks", True, "nats"),
)
# By labelled tasks: the first word of a tag (`cmgems.comparison.records`), and what it is called.
JUDGES = {
    "probe": "probe during the run",
    "scored_probe": "probe",
    "scored_few_shot": "few-shot",
    "scored_full": "fine-tuned",
    "scored_zero_shot": "zero-shot",
}
# Runs that differ in one of these are validated on other windows, or on other tokens.
SAME_VALIDATION = (
    "data.genome",
    "data.k",
    "data.window_length",
    "data.min_window_length",
    "data.full_length_fraction",
)
SAME_VALIDATION += ("data.validation_fraction", "data.validation_block", "validation.windows")
SAME_VALIDATION += ("masking.mask_ratio", "masking.center_rate", "pmi.table")


class Figure(NamedTuple):
    """A measure of a group at the end of its runs."""

    values: list[float]  # in the order of the seeds
    interval: Interval


class Difference(NamedTuple):
    """A group less the baseline, at the end, over the seeds that both have."""

    seeds: list[int]
    paired: PairedDifference
    corrected_p: float  # for the number of groups that are compared by this measure


class Row(NamedTuple):
    """A group under one measure; the last two are None for the baseline itself, and there is no
    match where the baseline ends no better than it began."""

    group: Group
    figure: Figure
    difference: Difference | None
    match: Match | None


@dataclass(frozen=True)
class Comparison:
    groups: list[Group]
    baseline: Group
    rows: dict[Measure, list[Row]]  # the baseline first
    varied: list[str]  # config keys that differ
    warnings: list[str]
    beside: list[Beside]  # models that are no runs, under the same measures


def compare(found: Found, baseline: str = "") -> Comparison:
    """Compare groups of runs with one of them.

    Parameters
    ----------
    found : the runs
    baseline : label of a group; empty: constant `random` masks, or else the first group
    """
    base = choose_baseline(found.groups, baseline)
    groups = [base, *(group for group in found.groups if group is not base)]
    rows = {measure: _rows(measure, groups) for measure in measures(groups)}
    varied = varied_keys(groups)
    return Comparison(groups, base, rows, varied, _warnings(found, varied), found.beside)


def choose_baseline(groups: list[Group], label: str) -> Group:
    if label:
        for group in groups:
            if group.label == label:
                return group
        known = ", ".join(group.label for group in groups)
        raise UserError(f"baseline: found {label!r}, wanted one of {known}")
    for group in groups:
        curriculum = group.runs[0].experiment.curriculum
        if (curriculum.schedule, curriculum.strategies) == ("constant", ("random",)):
            return group
    return groups[0]


def measures(groups: list[Group]) -> list[Measure]:
    """Those that every run has: the fixed ones, and each labelled task by its official metric."""
    curves = [run.curves for group in groups for run in group.runs]
    tags = [tag for tag in curves[0] if all(tag in its for its in curves)]
    found = [measure for measure in FIXED if measure.tag in tags]
    titles = {tag: _title(tag, tags) for tag in tags}
    return found + [
        Measure(tag, title, tag.endswith("/mse")) for tag, title in titles.items() if title
    ]


def _title(tag: str, tags: list[str]) -> str | None:
    """What the official figure of a labelled task is called; None for any other tag.

    A task that is probed during the run has several figures: the official metric is the one that
    its nearest neighbours are given in, too.
    """
    kind, _, rest = tag.partition("/")
    task, _, metric = rest.rpartition("/")
    if kind not in JUDGES or (kind == "probe" and f"probe/{task}/neighbours_{metric}" not in tags):
        return None
    return f"{JUDGES[kind]}: {task}, {metric}"


def final(run: Run, measure: Measure) -> float:
    """The figure of the last validation: that of results.json, or of the curve for a probe."""
    section, _, name = measure.tag.partition("/")
    if section.startswith("validation_"):
        return float(run.results["final"][section.removeprefix("validation_")][name])
    return float(run.curves[measure.tag].values[-1])


def is_curve(group: Group, measure: Measure) -> bool:
    """Whether there is more than one step at which all runs of a group have a measure."""
    return len(matrix(group, measure)[0]) > 1


def matrix(group: Group, measure: Measure) -> tuple[np.ndarray, np.ndarray]:
    """(steps [T], curves [R, T]) at the validations that all runs of a group have."""
    curves = [run.curves[measure.tag] for run in group.runs]
    steps = curves[0].steps
    for curve in curves[1:]:
        steps = np.intersect1d(steps, curve.steps)
    rows = [curve.values[np.searchsorted(curve.steps, steps)] for curve in curves]
    return steps, np.array(rows)


def tokens_per_step(group: Group) -> float:
    return _mean(run.results["tokens"] / run.experiment.train.max_steps for run in group.runs)


def seconds_per_step(group: Group) -> float:
    return _mean(
        run.results["training_seconds"] / run.experiment.train.max_steps for run in group.runs
    )


def _mean(values) -> float:
    return float(np.mean(list(values)))


def _rows(measure: Measure, groups: list[Group]) -> list[Row]:
    baseline = groups[0]
    pairs = [_pairs(baseline, group, measure) for group in groups[1:]]
    tests = [paired_t_test(ours, theirs) for _, ours, theirs in pairs]
    corrected = holm_correction([test.p for test in tests])
    rows = [Row(baseline, _figure(baseline, measure), None, None)]
    for group, (seeds, _, _), test, p in zip(groups[1:], pairs, tests, corrected, strict=True):
        difference = Difference(seeds, test, float(p))
        rows.append(
            Row(group, _figure(group, measure), difference, _match(baseline, group, measure))
        )
    return rows


def _figure(group: Group, measure: Measure) -> Figure:
    values = [final(run, measure) for run in group.runs]
    return Figure(values, mean_interval(values))


def _pairs(baseline: Group, group: Group, measure: Measure):
    """(seeds that both have, figures of the group, figures of the baseline)"""
    ours, theirs = (
        {run.experiment.seed: final(run, measure) for run in each.runs}
        for each in (group, baseline)
    )
    seeds = sorted(set(ours) & set(theirs))
    if not seeds:
        return [], [np.nan], [np.nan]
    return seeds, [ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]


def learned(group: Group, measure: Measure) -> bool:
    """Whether a group is better at the end than at its first validation, beyond its seeds."""
    _, curves_RT = matrix(group, measure)
    gain = mean_interval(curves_RT[:, -1] - curves_RT[:, 0])
    worst = (gain.high if measure.lower_is_better else gain.low) if gain.count > 1 else gain.mean
    return bool(worst < 0) if measure.lower_is_better else bool(worst > 0)


def _match(baseline: Group, group: Group, measure: Measure) -> Match | None:
    if not learned(baseline, measure):
        return None  # an untrained model matches it
    steps, curves = matrix(group, measure)
    target = np.array([final(run, measure) for run in baseline.runs])
    rng = np.random.default_rng(derive_key(0, f"match {measure.tag} {group.label}"))
    same = group.seeds == baseline.seeds
    return steps_to_match(steps, curves, target, same, rng, measure.lower_is_better)


def _warnings(found: Found, varied: list[str]) -> list[str]:
    lines = [f"{path}: not finished, left out" for path in found.unfinished]
    runs = [run for group in found.groups for run in group.runs]
    lines += [
        f"{key} differs: the runs are not validated alike, figures do not compare"
        for key in SAME_VALIDATION
        if key in varied
    ]
    if len({run.results["genome"]["sha256"] for run in runs}) > 1 and "data.genome" not in varied:
        lines.append("the genome differs under one name: the figures do not compare")
    if len({run.results["git_revision"] for run in runs}) > 1:
        lines.append("the runs come from different revisions of the code")
    scored = {tag for run in runs for tag in run.curves if tag.startswith("scored_")}
    lines += [
        f"{tag.removeprefix('scored_')} is known of {len(known)} of {len(runs)} runs, left out"
        for tag in sorted(scored)
        if len(known := [run for run in runs if tag in run.curves]) < len(runs)
    ]
    few = [group.label for group in found.groups if len(group.runs) < 2]
    if few:
        lines.append(f"one seed only, so no interval: {', '.join(few)}")
    return lines
