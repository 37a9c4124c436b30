"""Values of a metric at the end of runs, and differences of two groups of runs, with intervals.

What is measured on hidden bases is known window by window: where all runs have the same windows,
intervals cross seeds and windows (`cmgems.utils.crossed_intervals`). Otherwise, and for labelled
tasks, they are over seeds alone.
"""

from typing import NamedTuple

import numpy as np

from cmgems.comparison.metrics import Metric, final_value
from cmgems.comparison.records import Group, Run
from cmgems.utils.crossed_intervals import crossed_interval
from cmgems.utils.intervals import Interval, PairedDifference, mean_interval, paired_t_test


class FinalValues(NamedTuple):
    """A metric of a group at the end of its runs."""

    values: list[float]  # in the order of the seeds
    interval: Interval
    windows: int  # that the interval crosses with the seeds; 0: it is over seeds alone


class Difference(NamedTuple):
    """A group less the baseline, at the end, over the seeds that both have."""

    seeds: list[int]
    paired: PairedDifference
    corrected_p: float  # for all comparisons of a verdict; nan until then, and where none is tested
    windows: int


def final_values(group: Group, metric: Metric) -> FinalValues:
    values = [final_value(run, metric) for run in group.runs]
    sums = _aligned_sums(group.runs, metric)
    if sums is None:
        return FinalValues(values, mean_interval(values), 0)
    interval = crossed_interval(sums.sums_RN, sums.bases_N).difference
    return FinalValues(values, interval._replace(mean=float(np.mean(values))), sums.windows)


def difference(group: Group, baseline: Group, metric: Metric) -> Difference:
    """Not yet corrected for other comparisons."""
    by_seed = [{run.experiment.seed: run for run in arm.runs} for arm in (group, baseline)]
    seeds = sorted(set(by_seed[0]) & set(by_seed[1]))
    if not seeds:
        return Difference([], paired_t_test([np.nan], [np.nan]), np.nan, 0)
    runs, others = ([runs[seed] for seed in seeds] for runs in by_seed)
    sums = _aligned_sums([*runs, *others], metric) if len(seeds) > 1 else None
    if sums is not None:
        less_SN = sums.sums_RN[: len(seeds)] - sums.sums_RN[len(seeds) :]
        return Difference(seeds, crossed_interval(less_SN, sums.bases_N), np.nan, sums.windows)
    a, b = ([final_value(run, metric) for run in arm] for arm in (runs, others))
    return Difference(seeds, paired_t_test(a, b), np.nan, 0)


class _AlignedSums(NamedTuple):
    sums_RN: np.ndarray  # float64, one row per run
    bases_N: np.ndarray

    @property
    def windows(self) -> int:
        return int((self.bases_N > 0).sum())


def _aligned_sums(runs: list[Run], metric: Metric) -> _AlignedSums | None:
    """The sums of runs by window; None where there are fewer than two runs or windows, or a run has
    none, or hides other bases in its windows."""
    names = f"{metric.sums}", f"{metric.sums.rpartition('/')[0]}/bases"
    if len(runs) < 2 or not all(name in run.window_sums for run in runs for name in names):
        return None
    bases_RN = [run.window_sums[names[1]] for run in runs]
    if any(not np.array_equal(bases_N, bases_RN[0]) for bases_N in bases_RN[1:]):
        return None
    sums_RN = np.array([run.window_sums[names[0]] for run in runs], float)
    aligned = _AlignedSums(sums_RN, bases_RN[0].astype(np.int64))
    return aligned if aligned.windows > 1 else None
