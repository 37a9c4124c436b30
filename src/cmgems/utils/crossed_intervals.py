"""How certain a mean is over seeds and windows together: pure functions of arrays.

Every seed is measured on the same windows, so seeds and windows are crossed: a mean differs with
other seeds and, by the same amount for all seeds, with other windows. An interval over seeds alone
is one for these very windows; one over windows alone is one for these very seeds.

The variance of the mean of S seeds by C windows is (MS_seeds + MS_windows - MS_residual) / (S C),
with the mean squares of a two-way layout without repetition, both factors random (Searle, Casella,
McCulloch, "Variance components", 1992, section 4.7). Windows hold different numbers of bases: the
mean of a seed is a ratio of sums, and windows enter with its linearization, as in
`intervals.ratio_interval`.

The interval joins two, each with Student's quantile of its own degrees of freedom: half its width
is the root of the sum of the squares of theirs (Howe, JASA 69 (1974) 789). One quantile for both,
with Satterthwaite's degrees of freedom, does not do here: when the means of few seeds lie close
together by chance, it takes them for known, and of two seeds it finds p below 1e-4 in up to 5 % of
the cases where there is nothing.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from cmgems.utils.intervals import Interval, PairedDifference

LEAST_P = 1e-30  # smaller ones are given as this one


class MeanSquares(NamedTuple):
    """Of a two-way layout of S seeds by C windows."""

    seeds: float
    windows: float
    residual: float


def crossed_interval(
    sums_SN: np.ndarray, counts_N: np.ndarray, level: float = 0.95
) -> PairedDifference:
    """The mean per base, averaged over seeds, its interval, and p of a mean of 0.

    For the difference of two models, give the differences of their sums, seed by seed.

    Parameters
    ----------
    sums_SN : sums over the bases of each window, one row per seed, two or more
    counts_N : bases of each window; windows without any are left out
    level : of the interval

    Raises
    ------
    ValueError
        If there are fewer than two seeds, or than two windows with a base.
    """
    held_N = np.asarray(counts_N) > 0
    counts_C = np.asarray(counts_N, float)[held_N]
    sums_SC = np.asarray(sums_SN, float)[:, held_N]
    seeds, windows = sums_SC.shape
    if min(seeds, windows) < 2:
        raise ValueError(f"found {seeds} seeds by {windows} windows, wanted two of each or more")
    mean_S = sums_SC.sum(1) / counts_C.sum()
    mean = float(mean_S.mean())
    value_SC = mean_S[:, None] + (sums_SC - mean_S[:, None] * counts_C) / counts_C.mean()
    squares = mean_squares(value_SC)
    # Not below 0, however the windows of these few seeds happen to lie.
    between = max(squares.windows - squares.residual, 0.0)
    parts = (
        Part(squares.seeds / (seeds * windows), seeds - 1),
        Part(between / (seeds * windows), windows - 1),
    )
    half = half_width(parts, 1 - level)
    return PairedDifference(
        Interval(mean, mean - half, mean + half, seeds), two_sided_p(parts, mean)
    )


class Part(NamedTuple):
    """A part of the variance of a mean."""

    variance: float
    freedom: int


def half_width(parts: tuple[Part, ...], p: float) -> float:
    """Half the width of an interval that leaves out a fraction p."""
    return math.sqrt(
        sum(part.variance * float(special.stdtrit(part.freedom, p / 2)) ** 2 for part in parts)
    )


def two_sided_p(parts: tuple[Part, ...], mean: float) -> float:
    """The p at which an interval around a mean ends at 0."""
    if mean == 0:
        return 1.0
    if half_width(parts, LEAST_P) < abs(mean):
        return LEAST_P
    log_p = optimize.brentq(
        lambda log_p: half_width(parts, math.exp(log_p)) - abs(mean), math.log(LEAST_P), 0.0
    )
    return math.exp(log_p)


def mean_squares(value_SC: np.ndarray) -> MeanSquares:
    """The mean squares of values, one row per seed and one column per window."""
    seeds, windows = value_SC.shape
    mean = value_SC.mean()
    by_seed_S1, by_window_C = value_SC.mean(1, keepdims=True), value_SC.mean(0)
    residual_SC = value_SC - by_seed_S1 - by_window_C + mean
    return MeanSquares(
        seeds=float(windows * ((by_seed_S1 - mean) ** 2).sum() / (seeds - 1)),
        windows=float(seeds * ((by_window_C - mean) ** 2).sum() / (windows - 1)),
        residual=float((residual_SC**2).sum() / ((seeds - 1) * (windows - 1))),
    )
