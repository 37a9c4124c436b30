"""What runs are compared by: validation under fixed masks, and labelled tasks.

Letters of array names: R runs (one per seed), E validations.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from cmgems.comparison.records import Group, Run
from cmgems.runs.hidden_bases import JUDGE_NAMES


class Metric(NamedTuple):
    """A metric by which models are compared. Never a training loss: it depends on the masks."""

    tag: str  # in metrics.csv
    title: str
    lower_is_better: bool
    unit: str = ""
    sums: str = ""  # its array in `cmgems.training.judge.WindowSums`, if it has one
    judge: str = ""  # which of several judges of the same it is, in short
    is_tested: bool = True  # whether it counts for a verdict; otherwise it is only shown

    @property
    def title_with_unit(self) -> str:
        return self.title if self.unit in self.title else f"{self.title}, {self.unit}"


HIDDEN_BITS = Metric(
    "validation_random_wide/hidden_base_bits",
    "bits per hidden base",
    True,
    "bits",
    "random_wide/all/model",
)
UNIQUE = "bits per hidden base in unique DNA"


def _judged(masks: str, quantity: str) -> Metric:
    """Bits in unique DNA under the masks of a judge, of the model or of it recalibrated."""
    judge = masks if quantity == "model" else f"{masks} {quantity}"
    tag = f"judge_{masks}/unique_{quantity}_bits"
    return Metric(tag, f"{UNIQUE}, {judge}", True, "bits", f"{masks}/unique/{quantity}", judge)


UNIQUE_BITS = Metric(
    "final_unique/model_bits", UNIQUE, True, "bits", "random_wide/unique/model", "random_wide"
)
GAINED_OVER_MARKOV = Metric(
    "final_all/bits_gained_over_markov",
    "bits gained over Markov",
    False,
    "bits",
    "random_wide/all/gained_over_markov",
)
# What maskings are judged by first: shown and matched at the end of each budget, too.
HEADLINES = (UNIQUE_BITS, GAINED_OVER_MARKOV, HIDDEN_BITS)
JUDGED = tuple(
    _judged(masks, quantity)
    for quantity in ("model", "recalibrated")
    for masks in JUDGE_NAMES
    if (masks, quantity) != ("random_wide", "model")  # which every run has under another name
)
VALIDATION_METRICS = (
    HIDDEN_BITS,
    UNIQUE_BITS,
    *JUDGED,
    GAINED_OVER_MARKOV,
    # Mostly what can be copied from visible neighbors.
    Metric("validation_random/loss", "loss, random masks", True, "nats", is_tested=False),
    Metric("validation_random_wide/loss", "loss, wide random masks", True, "nats", is_tested=False),
)
# How a labelled task is scored: the first word of a tag (`cmgems.comparison.records`) and its name.
TASK_PROTOCOLS = {
    "probe": "probe during the run",
    "scored_probe": "probe",
    "scored_few_shot": "few-shot",
    "scored_full": "fine-tuned",
    "scored_zero_shot": "zero-shot",
}


def common_metrics(groups: list[Group]) -> list[Metric]:
    """The metrics that every run has: of validation, and the official one of each labelled task."""
    curves_by_run = [run.curves for group in groups for run in group.runs]
    tags = [tag for tag in curves_by_run[0] if all(tag in curves for curves in curves_by_run)]
    titles = {tag: _task_title(tag, tags) for tag in tags}
    return [metric for metric in VALIDATION_METRICS if metric.tag in tags] + [
        Metric(tag, title, tag.endswith("/mse")) for tag, title in titles.items() if title
    ]


def _task_title(tag: str, tags: list[str]) -> str | None:
    """The title of the official metric of a labelled task; None for any other tag.

    A task that is probed during the run has several metrics: the official one is the one that its
    nearest neighbours are scored by, too.
    """
    protocol, _, rest = tag.partition("/")
    task, _, metric = rest.rpartition("/")
    if protocol not in TASK_PROTOCOLS:
        return None
    if protocol == "probe" and f"probe/{task}/neighbours_{metric}" not in tags:
        return None
    return f"{TASK_PROTOCOLS[protocol]}: {task}, {metric}"


def final_value(run: Run, metric: Metric) -> float:
    """The value at the end: that of results.json, or the last of the curve for a task and for what
    is measured at the end alone."""
    section, _, name = metric.tag.partition("/")
    if section.startswith("validation_"):
        return float(run.results["final"][section.removeprefix("validation_")][name])
    return float(run.curves[metric.tag].values[-1])


def last_value(run: Run, tag: str) -> float | None:
    """The last value of a scalar of metrics.csv; None where the run has none."""
    return float(run.curves[tag].values[-1]) if tag in run.curves else None


def has_curve(group: Group, metric: Metric) -> bool:
    """Whether there is more than one step at which all runs of a group have a metric."""
    return len(aligned_curves(group, metric)[0]) > 1


def aligned_curves(group: Group, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """(steps int64 [E], values float64 [R, E]) at the validations that all runs of a group have."""
    curves = [run.curves[metric.tag] for run in group.runs]
    steps_E = curves[0].steps
    for curve in curves[1:]:
        steps_E = np.intersect1d(steps_E, curve.steps)
    rows = [curve.values[np.searchsorted(curve.steps, steps_E)] for curve in curves]
    return steps_E, np.array(rows)


def measured_budgets(group: Group, metric: Metric) -> list[int]:
    """Steps at which all runs of a group have ended and know a metric: of branches from several
    steps of their parents; empty where there are none."""
    common = set.intersection(*(set(_by_budget(run, metric)) for run in group.runs))
    return sorted(common) if len(common) > 1 else []


def budget_curves(group: Group, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """(steps int64 [E], values float64 [R, E]): final values at the measured budgets, each of a run
    whose learning rate had fallen to 0 there."""
    budgets = measured_budgets(group, metric)
    ends_R = [_by_budget(run, metric) for run in group.runs]
    rows = [[final_value(ends[step], metric) for step in budgets] for ends in ends_R]
    return np.array(budgets), np.array(rows)


def _by_budget(run: Run, metric: Metric) -> dict[int, Run]:
    ends = [each for each in (*run.shorter, run) if metric.tag in each.curves]
    return {each.experiment.train.max_steps: each for each in ends}


def tokens_per_step(group: Group) -> float:
    return _mean(run.results["tokens"] / run.experiment.train.max_steps for run in group.runs)


def seconds_per_step(group: Group) -> float:
    return _mean(
        run.results["training_seconds"] / run.experiment.train.max_steps for run in group.runs
    )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
