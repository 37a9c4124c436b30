"""Intervals and tests over a handful of repetitions (seeds): pure functions of arrays.

Three seeds are few. The percentile bootstrap, which resamples them, then covers the truth far less
often than it says (measured in `tests/test_intervals.py`); what is here is exact for means of
normally distributed figures however few there are, and says what it assumes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """An estimate and its interval; `low` and `high` are nan where one repetition says nothing."""

    mean: float
    low: float
    high: float
    count: int  # repetitions


class Paired(NamedTuple):
    """One model against another on the same repetitions."""

    difference: Interval  # one less other
    p: float  # that a difference so large comes of chance; nan where it is not known


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean and Student's interval of it: exact for normal figures, two or more of them."""
    values = np.asarray(values, float)
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return Interval(mean, np.nan, np.nan, count)
    half = stats.t.ppf((1 + level) / 2, count - 1) * values.std(ddof=1) / np.sqrt(count)
    return Interval(mean, mean - half, mean + half, count)


def paired(one: Sequence[float], other: Sequence[float], level: float = 0.95) -> Paired:
    """Difference of the means over the same repetitions, in the same order; Student's paired test.

    (A sign-flip test of 3 pairs cannot give a p below 0.25, so it would never find anything.)
    """
    difference = np.asarray(one, float) - np.asarray(other, float)
    interval = mean_interval(difference, level)
    if len(difference) < 2:
        return Paired(interval, np.nan)
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    if error == 0:
        return Paired(interval, 1.0 if interval.mean == 0 else 0.0)
    p = 2 * stats.t.sf(abs(interval.mean) / error, len(difference) - 1)
    return Paired(interval, float(p))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p values corrected for their number (Holm, Scand J Stat 1979); nan stays nan, uncounted."""
    p_values = np.asarray(p_values, float)
    adjusted = np.full(len(p_values), np.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    return adjusted


def drawn_means(curves_RT: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
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
