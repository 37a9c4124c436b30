"""How certain a mean is over seeds and windows together: pure functions of arrays.

Every seed is measured on the same windows, so seeds and windows are crossed: a mean differs with
other seeds and, by the same amount for all seeds, with other windows. An interval over seeds alone
is one for these very windows; one over windows alone is one for these very seeds.

The variance of the mean of S seeds by C windows is (MS_seeds + MS_windows - MS_residual) / (S C),
with the mean squares of a two-way layout without repetition, both factors random (Searle, Casella,
McCulloch, "Variance components", 1992, section 4.7); its degrees of freedom are Satterthwaite's
(Biometrics Bulletin 2 (1946) 110). Windows hold different numbers of bases: the mean of a seed is a
ratio of sums, and windows enter with its linearization, as in `intervals.ratio_interval`.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from cmgems.utils.intervals import Interval, PairedDifference


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
    variance = (squares.seeds + between) / (seeds * windows)
    if variance == 0:
        p = 1.0 if mean == 0 else 0.0
        return PairedDifference(Interval(mean, mean, mean, seeds), p)
    freedom = squares.seeds**2 / (seeds - 1)
    if between:
        freedom += squares.windows**2 / (windows - 1)
        freedom += squares.residual**2 / ((seeds - 1) * (windows - 1))
    freedom = (squares.seeds + between) ** 2 / freedom
    error = math.sqrt(variance)
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, freedom))
    return PairedDifference(Interval(mean, mean - half, mean + half, seeds), p)


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
