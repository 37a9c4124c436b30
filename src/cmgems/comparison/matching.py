"""Steps to match: when a model is as good as the baseline at its end. Pure functions of curves."""

from typing import NamedTuple

import numpy as np

from cmgems.utils.intervals import bootstrap_means

DRAWS = 10_000


class Match(NamedTuple):
    """The step at which a mean curve reaches a figure; infinite where it never does."""

    step: float
    low: float  # of the 95 % interval over seeds; nan with fewer than two seeds
    high: float
    reached: float  # share of the draws that reach the figure; nan with fewer than two seeds


def first_reached(steps_T: np.ndarray, curves_DT: np.ndarray, target_D: np.ndarray) -> np.ndarray:
    """float64 [D]: where each curve first is at or below its target, linear between the steps;
    infinite where it never is."""
    below_DT = curves_DT <= target_D[:, None]
    at_D = below_DT.argmax(1)
    before_D = np.maximum(at_D - 1, 0)
    rows = np.arange(len(curves_DT))
    high_D, low_D = curves_DT[rows, before_D], curves_DT[rows, at_D]
    with np.errstate(divide="ignore", invalid="ignore"):
        share_D = np.where(at_D > 0, (high_D - target_D) / (high_D - low_D), 1.0)
    reached_D = steps_T[before_D] + share_D * (steps_T[at_D] - steps_T[before_D])
    return np.where(below_DT.any(1), reached_D, np.inf)


def steps_to_match(
    steps_T: np.ndarray,
    curves_RT: np.ndarray,
    baseline_R: np.ndarray,
    paired: bool,
    rng: np.random.Generator,
    lower_is_better: bool = True,
) -> Match:
    """The step at which the mean curve reaches the mean final figure of the baseline.

    Both are means over seeds, and both are uncertain: the interval is over draws of the two
    together (`cmgems.utils.intervals.bootstrap_means`).

    Parameters
    ----------
    steps_T : steps of the validations, ascending
    curves_RT : of the strategy, one row a seed
    baseline_R : final figures of the baseline
    paired : whether the rows of both belong to the same seeds, in the same order
    rng : consumed
    """
    if not lower_is_better:
        curves_RT, baseline_R = -curves_RT, -baseline_R
    step = first_reached(steps_T, curves_RT.mean(0)[None], baseline_R.mean()[None])[0]
    if min(len(curves_RT), len(baseline_R)) < 2:
        return Match(float(step), np.nan, np.nan, np.nan)
    if paired:
        both = bootstrap_means(np.column_stack([curves_RT, baseline_R]), DRAWS, rng)
        curves_DT, target_D = both[:, :-1], both[:, -1]
    else:
        curves_DT = bootstrap_means(curves_RT, DRAWS, rng)
        target_D = bootstrap_means(baseline_R[:, None], DRAWS, rng)[:, 0]
    reached_D = first_reached(steps_T, curves_DT, target_D)
    # by order, not between two draws: one of them may be infinite
    low, high = np.quantile(reached_D, [0.025, 0.975], method="inverted_cdf")
    return Match(float(step), float(low), float(high), float(np.isfinite(reached_D).mean()))
