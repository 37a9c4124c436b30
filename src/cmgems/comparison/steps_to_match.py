"""Steps to match: when a model is as good as the baseline at its end. Pure functions of curves.

Letters of array names: R runs (one per seed), E validations, W resamples of the bootstrap.
"""

from typing import NamedTuple

import numpy as np

from cmgems.utils.intervals import bootstrap_means

RESAMPLES = 10_000


class StepsToMatch(NamedTuple):
    """The step at which a mean curve reaches a value; infinite where it never does."""

    step: float
    low: float  # of the 95 % interval over seeds; nan with fewer than two seeds
    high: float
    reached_fraction: float  # of the resamples that reach the value; nan below two seeds


def first_crossing(steps_E: np.ndarray, curves_WE: np.ndarray, target_W: np.ndarray) -> np.ndarray:
    """float64 [W]: where each curve is at or below its target for the first time.

    Linear between the validations; infinite where the curve never gets there.
    """
    below_WE = curves_WE <= target_W[:, None]
    after_W = below_WE.argmax(1)
    before_W = np.maximum(after_W - 1, 0)
    rows = np.arange(len(curves_WE))
    high_W, low_W = curves_WE[rows, before_W], curves_WE[rows, after_W]
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction_W = np.where(after_W > 0, (high_W - target_W) / (high_W - low_W), 1.0)
    crossing_W = steps_E[before_W] + fraction_W * (steps_E[after_W] - steps_E[before_W])
    return np.where(below_WE.any(1), crossing_W, np.inf)


def estimate_steps_to_match(
    steps_E: np.ndarray,
    curves_RE: np.ndarray,
    baseline_R: np.ndarray,
    paired: bool,
    rng: np.random.Generator,
    lower_is_better: bool = True,
) -> StepsToMatch:
    """The step at which the mean curve reaches the mean final value of the baseline.

    Both are means over seeds, and both are uncertain: the interval is over resamples of the two
    together (`cmgems.utils.intervals.bootstrap_means`).

    Parameters
    ----------
    steps_E : steps of the validations, ascending
    curves_RE : of the group, one row per seed
    baseline_R : final values of the baseline, one per seed
    paired : whether the rows of both belong to the same seeds, in the same order
    rng : consumed
    lower_is_better : whether a smaller value is a better one
    """
    if not lower_is_better:
        curves_RE, baseline_R = -curves_RE, -baseline_R
    step = first_crossing(steps_E, curves_RE.mean(0)[None], baseline_R.mean()[None])[0]
    if min(len(curves_RE), len(baseline_R)) < 2:
        return StepsToMatch(float(step), np.nan, np.nan, np.nan)
    if paired:
        both = bootstrap_means(np.column_stack([curves_RE, baseline_R]), RESAMPLES, rng)
        curves_WE, target_W = both[:, :-1], both[:, -1]
    else:
        curves_WE = bootstrap_means(curves_RE, RESAMPLES, rng)
        target_W = bootstrap_means(baseline_R[:, None], RESAMPLES, rng)[:, 0]
    crossing_W = first_crossing(steps_E, curves_WE, target_W)
    # By order, not between two resamples: one of them may be infinite.
    low, high = np.quantile(crossing_W, [0.025, 0.975], method="inverted_cdf")
    reached_fraction = float(np.isfinite(crossing_W).mean())
    return StepsToMatch(float(step), float(low), float(high), reached_fraction)
