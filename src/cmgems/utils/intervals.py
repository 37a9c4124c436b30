"""How sure a mean is, and whether two models differ: pure functions of arrays and lists.

Seeds alone (`mean_interval`, `paired_t_test`, `bootstrap_means`): three are few. The percentile
bootstrap, which resamples them, then covers the truth far less often than it says (measured in
`tests/utils/test_intervals.py`); these are exact for means of normally distributed figures
however few there are.

Draws of a labelled task, each with its seeds (`summarize`, `compare_by_task`):
`values[draw][seed]`. Seeds of one draw share their examples, so they are no independent
repetitions: draws are resampled, each with all its seeds (hierarchical bootstrap: Davison and
Hinkley, "Bootstrap methods and their application", 1997, section 3.8, strategy 1). Resampling the
seeds within a draw as well counts their spread twice: where seeds alone differ it covered 99 % in a
simulation, this one 94 %. The interval speaks of draws and seeds on this test split; that the test
split is itself a sample comes on top.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from cmgems.utils.rng import generator

ReplicateScores = Sequence[Sequence[float]]
RESAMPLES = 10_000  # enough for all sign patterns of 13 draws
FEW = 8  # draws, below which the bootstrap has too few different resamples


class Interval(NamedTuple):
    """An estimate and its interval; `low` and `high` are nan where one repetition says nothing."""

    mean: float
    low: float
    high: float
    count: int  # repetitions


class PairedDifference(NamedTuple):
    """One model against another on the same repetitions."""

    difference: Interval  # one less other
    p: float  # that a difference so large comes of chance; nan where it is not known


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean and Student's interval of it: exact for normal figures, two or more of them."""
    values = np.asarray(values, float)
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return Interval(mean, np.nan, np.nan, count)
    half = float(stats.t.ppf((1 + level) / 2, count - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half, count)


def paired_t_test(
    one: Sequence[float], other: Sequence[float], level: float = 0.95
) -> PairedDifference:
    """Difference of the means over the same repetitions, in the same order; Student's paired test.

    (A sign-flip test of 3 pairs cannot give a p below 0.25, so it would never find anything.)
    """
    difference = np.asarray(one, float) - np.asarray(other, float)
    interval = mean_interval(difference, level)
    if len(difference) < 2:
        return PairedDifference(interval, np.nan)
    if np.ptp(difference) == 0:  # no spread to divide by
        return PairedDifference(interval, 1.0 if difference[0] == 0 else 0.0)
    return PairedDifference(interval, float(stats.ttest_rel(one, other).pvalue))


def holm_correction(p_values: Sequence[float]) -> np.ndarray:
    """p values corrected for their number (Holm, Scand J Stat 1979); nan stays nan, uncounted."""
    p_values = np.asarray(p_values, float)
    adjusted = np.full(len(p_values), np.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    return adjusted


def bootstrap_means(curves_RT: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """float64 [draws, T]: means of whole curves as they could have come out with other seeds.

    A bootstrap with Student's weights. Each draw adds to the mean curve a random combination of
    the repetitions' deviations from it, of the size that makes the draws at any one place, and of
    any weighted sum over places, follow Student's t with R - 1 degrees of freedom: the interval
    between their quantiles is that of `mean_interval`, and what is computed from a whole curve (the
    step at which it crosses a line) gets an interval of the same kind. Curves to be compared seed
    by seed go in side by side, as one longer curve.

    Parameters
    ----------
    curves_RT : one row a repetition, two or more
    draws : number of means
    rng : consumed
    """
    curves_RT = np.asarray(curves_RT, float)
    count = len(curves_RT)
    if count < 2:
        raise ValueError(f"found {count} repetitions, wanted two or more")
    mean_T = curves_RT.mean(0)
    weights_DR = rng.standard_normal((draws, count)) / np.sqrt(count * (count - 1))
    weights_DR /= np.sqrt(rng.chisquare(count - 1, draws) / (count - 1))[:, None]
    return mean_T + weights_DR @ (curves_RT - mean_T)


class ScoreSummary(NamedTuple):
    """A mean with its interval; nan where there is nothing to resample."""

    mean: float
    sd: float  # of the single scores, over draws and seeds
    low: float
    high: float
    count: int  # scores


class TaskComparison(NamedTuple):
    """One model less another on a task, over the same draws and seeds."""

    task: str
    difference: ScoreSummary
    p: float  # two-sided, of a sign flip of the draws' differences
    p_holm: float  # corrected for all tasks of the comparison


def summarize(
    values: ReplicateScores, level: float = 0.95, resamples: int = RESAMPLES
) -> ScoreSummary:
    """Mean, standard deviation and interval; the same values give the same figures.

    The percentiles of the bootstrap are widened for the number of draws (Hesterberg, "What teachers
    should know about the bootstrap", The American Statistician 69 (2015) 371-386, expanded
    percentiles): plain ones cover too little with ten draws. Fewer than 8 draws have too few
    different resamples for any percentile: their interval is Student's.
    """
    every = np.array([score for seeds in values for score in seeds], float)
    if not len(every):
        raise ValueError("no scores to summarize")
    parts = _independent(values)
    mean, count = float(parts.mean()), len(every)
    sd = float(every.std(ddof=1)) if count > 1 else math.nan
    if len(parts) < 2:
        return ScoreSummary(mean, sd, math.nan, math.nan, count)
    if len(parts) < FEW:
        student = mean_interval(parts, level)
        return ScoreSummary(mean, sd, float(student.low), float(student.high), count)
    found = stats.bootstrap(
        (parts,),
        np.mean,
        n_resamples=resamples,
        confidence_level=1 - 2 * expanded_tail(len(parts), level),
        method="percentile",
        rng=generator(0, "hierarchical bootstrap"),
    )
    low, high = found.confidence_interval
    return ScoreSummary(mean, sd, float(low), float(high), count)


def _independent(values: ReplicateScores) -> np.ndarray:
    """What is independent of each other: the means of the draws, or the seeds of a single draw."""
    return np.array(values[0] if len(values) == 1 else [np.mean(seeds) for seeds in values], float)


def expanded_tail(groups: int, level: float) -> float:
    """The share to cut off at each end of the bootstrap, so that the interval of a mean of
    `groups` values is as wide as Student's."""
    t = stats.t.ppf((1 + level) / 2, groups - 1)
    return float(stats.norm.cdf(-math.sqrt(groups / (groups - 1)) * t))


def compare_by_task(
    first: Mapping[str, ReplicateScores], second: Mapping[str, ReplicateScores]
) -> list[TaskComparison]:
    """Paired comparison of two models on the tasks that both have.

    Parameters
    ----------
    first, second : scores by task; of a task the same draws and seeds, in the same order

    Raises
    ------
    ValueError
        If the draws and seeds of a task differ.
    """
    names = [name for name in first if name in second]
    differences = []
    for name in names:
        shape = [len(seeds) for seeds in first[name]]
        if shape != [len(seeds) for seeds in second[name]]:
            raise ValueError(f"{name}: the two models have other draws or seeds")
        differences.append(
            [
                [a - b for a, b in zip(*pair, strict=True)]
                for pair in zip(first[name], second[name], strict=True)
            ]
        )
    p_values = [sign_flip_p(_independent(values)) for values in differences]
    corrected = holm_correction(p_values).tolist()
    return [
        TaskComparison(name, summarize(values), p, p_holm)
        for name, values, p, p_holm in zip(names, differences, p_values, corrected, strict=True)
    ]


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided p of the mean of paired differences, under any flip of their signs.

    Exact up to 13 differences, of which the least p is 2 / 2**n: five draws cannot show p < 0.0625.
    """
    if len(differences) == 1:
        return 1.0  # a single difference is as large under either sign

    def size(values: np.ndarray, axis: int) -> np.ndarray:
        return np.abs(values.sum(axis))

    found = stats.permutation_test(
        (differences,),
        size,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        alternative="greater",
        rng=generator(0, "sign flips"),
    )
    return float(found.pvalue)
