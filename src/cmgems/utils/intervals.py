"""How certain a mean is, and whether two models differ: pure functions of arrays and lists.

Seeds alone (`mean_interval`, `paired_t_test`, `bootstrap_means`): there are few, often three. The
percentile bootstrap, which resamples them, then covers the truth far less often than its level
(measured in `tests/utils/test_intervals.py`); these functions are exact for means of normally
distributed values, however few there are.

Replicates of a labelled task, each with its seeds (`summarize`, `compare_by_task`):
`values[replicate][seed]`. Seeds of one replicate share their examples, so they are not independent
repetitions: replicates are resampled, each with all its seeds (hierarchical bootstrap: Davison and
Hinkley, "Bootstrap methods and their application", 1997, section 3.8, strategy 1). Resampling the
seeds within a replicate as well counts their spread twice: where seeds alone differ it covered 99 %
in a simulation, this one 94 %. The interval is over replicates and seeds on the given test split;
the uncertainty of the test split, itself a sample, is not part of it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from cmgems.utils.rng import generator

ReplicateScores = Sequence[Sequence[float]]  # [replicate][seed]
RESAMPLES = 10_000  # enough for all sign patterns of 13 replicates
MIN_BOOTSTRAP = 8  # replicates; fewer have too few different resamples


class Interval(NamedTuple):
    """A mean and its interval; `low` and `high` are nan for a single repetition."""

    mean: float
    low: float
    high: float
    count: int  # type: ignore[assignment]  # repetitions; hides tuple.count, which is not needed


class PairedDifference(NamedTuple):
    """One model against another on the same repetitions."""

    difference: Interval  # the first less the second
    p: float  # two-sided, of no difference; nan for a single repetition


def mean_interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> Interval:
    """Mean and Student's interval of it: exact for two or more normally distributed values."""
    array = np.asarray(values, float)
    mean, count = float(array.mean()), len(array)
    if count < 2:
        return Interval(mean, math.nan, math.nan, count)
    half = float(stats.t.ppf((1 + level) / 2, count - 1) * stats.sem(array))
    return Interval(mean, mean - half, mean + half, count)


def ratio_interval(sums_N: np.ndarray, counts_N: np.ndarray, level: float = 0.95) -> Interval:
    """The mean per item of clusters of items, and its interval over the clusters.

    Items of a cluster are not independent (bases of a window are all in a repeat, or all not), so
    clusters are what repeats. The mean is sum / count over all clusters, and its variance that of a
    ratio (Cochran, "Sampling techniques", 3rd edition, 1977, equation 2.46), Student's t with one
    less than the clusters that hold an item. `count` is their number.

    For the difference of two models on the same items, give the sums of the differences.

    Parameters
    ----------
    sums_N : of the items of each cluster
    counts_N : items of each cluster

    Raises
    ------
    ValueError
        If there is no item at all.
    """
    held_N = counts_N > 0
    sums_C, counts_C = np.asarray(sums_N, float)[held_N], np.asarray(counts_N, float)[held_N]
    clusters, items = len(sums_C), counts_C.sum()
    if not clusters:
        raise ValueError("no items to take the mean of")
    mean = float(sums_C.sum() / items)
    if clusters < 2:
        return Interval(mean, math.nan, math.nan, clusters)
    squares = ((sums_C - mean * counts_C) ** 2).sum() * clusters / (clusters - 1)
    half = float(stats.t.ppf((1 + level) / 2, clusters - 1) * math.sqrt(squares) / items)
    return Interval(mean, mean - half, mean + half, clusters)


def paired_t_test(
    a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, level: float = 0.95
) -> PairedDifference:
    """The mean of a - b over the same repetitions, in the same order; Student's paired test.

    (A sign-flip test of 3 pairs cannot give a p below 0.25, so it would never find anything.)
    """
    difference = np.asarray(a, float) - np.asarray(b, float)
    interval = mean_interval(difference, level)
    if len(difference) < 2:
        return PairedDifference(interval, math.nan)
    if np.ptp(difference) == 0:  # no spread to divide by
        return PairedDifference(interval, 1.0 if difference[0] == 0 else 0.0)
    return PairedDifference(interval, float(stats.ttest_rel(a, b).pvalue))


def holm_correction(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """p values corrected for their number (Holm, Scand J Stat 1979); nan stays nan, uncounted."""
    p = np.asarray(p_values, float)
    corrected = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return corrected


def bootstrap_means(curves_RT: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """float64 [samples, T]: means of whole curves as other seeds might have given them.

    A bootstrap with Student's weights. Each sample adds to the mean curve a random combination of
    the repetitions' deviations from it, scaled so that the samples at any one step, and of any
    weighted sum over steps, follow Student's t with R - 1 degrees of freedom: the interval between
    their quantiles is that of `mean_interval`, and what is computed from a whole curve (the step at
    which it crosses a line) gets an interval of the same kind. To compare curves seed by seed,
    concatenate them to one longer curve.

    Parameters
    ----------
    curves_RT : one row per repetition, two or more; one column per step
    samples : number of means
    rng : consumed
    """
    curves_RT = np.asarray(curves_RT, float)
    count = len(curves_RT)
    if count < 2:
        raise ValueError(f"found {count} repetitions, wanted two or more")
    mean_T = curves_RT.mean(0)
    weights_SR = rng.standard_normal((samples, count)) / np.sqrt(count * (count - 1))
    weights_SR /= np.sqrt(rng.chisquare(count - 1, samples) / (count - 1))[:, None]
    return mean_T + weights_SR @ (curves_RT - mean_T)


class ScoreSummary(NamedTuple):
    """A mean with its interval; nan where there is nothing to resample."""

    mean: float
    sd: float  # of the single scores, over replicates and seeds
    low: float
    high: float
    count: int  # type: ignore[assignment]  # scores; hides tuple.count, which is not needed


class TaskComparison(NamedTuple):
    """One model less another on a task, over the same replicates and seeds."""

    task: str
    difference: ScoreSummary
    p: float  # two-sided, of a sign flip of the replicates' differences
    p_holm: float  # corrected for all tasks of the comparison


def summarize(
    values: ReplicateScores, level: float = 0.95, resamples: int = RESAMPLES
) -> ScoreSummary:
    """Mean, standard deviation and interval; the same values give the same summary.

    The percentiles of the bootstrap are widened for the number of replicates (Hesterberg, "What
    teachers should know about the bootstrap", The American Statistician 69 (2015) 371-386, expanded
    percentiles): plain ones cover too little with ten replicates. Fewer than 8 replicates have too
    few different resamples for any percentile: their interval is Student's.
    """
    scores = np.array([score for seeds in values for score in seeds], float)
    if not len(scores):
        raise ValueError("no scores to summarize")
    groups = _independent(values)
    mean, count = float(groups.mean()), len(scores)
    sd = float(scores.std(ddof=1)) if count > 1 else math.nan
    if len(groups) < 2:
        return ScoreSummary(mean, sd, math.nan, math.nan, count)
    if len(groups) < MIN_BOOTSTRAP:
        student = mean_interval(groups, level)
        return ScoreSummary(mean, sd, student.low, student.high, count)
    result = stats.bootstrap(
        (groups,),
        np.mean,
        n_resamples=resamples,
        confidence_level=1 - 2 * expanded_tail(len(groups), level),
        method="percentile",
        rng=generator(0, "hierarchical bootstrap"),
    )
    low, high = result.confidence_interval
    return ScoreSummary(mean, sd, float(low), float(high), count)


def _independent(values: ReplicateScores) -> np.ndarray:
    """The independent values: the means of the replicates, or the seeds of a single replicate."""
    return np.array(values[0] if len(values) == 1 else [np.mean(seeds) for seeds in values], float)


def expanded_tail(groups: int, level: float) -> float:
    """The probability to cut off at each end of the bootstrap, so that the interval of a mean of
    `groups` values is as wide as Student's."""
    t = stats.t.ppf((1 + level) / 2, groups - 1)
    return float(stats.norm.cdf(-math.sqrt(groups / (groups - 1)) * t))


def compare_by_task(
    first: Mapping[str, ReplicateScores], second: Mapping[str, ReplicateScores]
) -> list[TaskComparison]:
    """Paired comparison of two models on the tasks that both have.

    Parameters
    ----------
    first, second : task -> scores; the same replicates and seeds per task, in the same order

    Raises
    ------
    ValueError
        If the replicates and seeds of a task differ.
    """
    tasks = [task for task in first if task in second]
    differences = [_subtract(task, first[task], second[task]) for task in tasks]
    p_values = [sign_flip_p(_independent(values)) for values in differences]
    corrected = holm_correction(p_values).tolist()
    return [
        TaskComparison(task, summarize(values), p, p_holm)
        for task, values, p, p_holm in zip(tasks, differences, p_values, corrected, strict=True)
    ]


def _subtract(task: str, first: ReplicateScores, second: ReplicateScores) -> list[list[float]]:
    """The differences of the scores on a task, pair by pair."""
    if [len(seeds) for seeds in first] != [len(seeds) for seeds in second]:
        raise ValueError(f"{task}: the two models have other replicates or seeds")
    return [
        [a - b for a, b in zip(*seeds, strict=True)] for seeds in zip(first, second, strict=True)
    ]


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided p of the mean of paired differences, under any flip of their signs.

    It is exact up to 13 differences; the least p of n differences is 2 / 2**n, so five replicates
    cannot show p < 0.0625.
    """
    if len(differences) == 1:
        return 1.0  # a single difference is as large under either sign

    def magnitude(values: np.ndarray, axis: int) -> np.ndarray:
        return np.abs(values.sum(axis))

    result = stats.permutation_test(
        (differences,),
        magnitude,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        alternative="greater",
        rng=generator(0, "sign flips"),
    )
    return float(result.pvalue)
