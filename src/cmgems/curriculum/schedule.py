"""Which strategy masks when: pure functions of the step and of the switches so far.

A schedule moves the *stage position* from 0, the first strategy of the list, to S - 1, the last of
S. Between two strategies the nearer one is the more probable. Mask ratio, span width and
temperature can change as well (`ramps`), each by its own schedule or with the stage position.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product
from math import cos, exp, floor, log, pi, sqrt

import numpy as np

from cmgems.config.schema import Curriculum, Masking, Ramp
from cmgems.masking.masker import MaskingPlan
from cmgems.masking.types import StrategyParams
from cmgems.tokenization.base import SpanWindows, width
from cmgems.utils.rng import derive_key, generator, uniform

EXPONENTIAL_BASE = 100.0  # `exponential` has made a tenth of its progress at 51 % of the run
PAPER_MASK_RATIO = 0.2  # more than any strategy masks at the paper's centre rates
RAMP_LEVELS = 20  # a ramp moves in this many steps: centre rates are solved for each level


def progress_curve(name: str, step: int, max_steps: int) -> float:
    """The progress of a schedule at step 0 .. max_steps - 1, from 0 to 1."""
    share = step / max_steps
    if name == "linear":
        return (100 * step // max_steps) / 100  # CM-STEP: floor(100 t / T) / 100
    if name == "cosine":
        return (1 - cos(pi * share)) / 2
    if name == "sqrt":
        return sqrt(share)
    if name == "exponential":
        return (EXPONENTIAL_BASE**share - 1) / (EXPONENTIAL_BASE - 1)
    return 0.0  # constant


def stage_position(
    curriculum: Curriculum, step: int, max_steps: int, switches: Sequence[int], seed: int
) -> float:
    """The position of a step among the strategies, 0 .. S - 1.

    Parameters
    ----------
    curriculum : Curriculum
    step : 0 .. max_steps - 1
    switches : first step of each stage but the first, of a `plateau` run so far
    seed : of the run
    """
    last = len(curriculum.strategies) - 1
    if curriculum.schedule == "plateau":
        stage = sum(step >= switch for switch in switches)
        return float(last - stage if curriculum.order == "reverse" else stage)
    step = curriculum_step(curriculum.order, step, max_steps, seed)
    if curriculum.schedule == "steps":
        return float(sum(step >= start * max_steps for start in curriculum.milestones))
    return last * progress_curve(curriculum.schedule, step, max_steps)


def curriculum_step(order: str, step: int, max_steps: int, seed: int) -> int:
    """The step of the forward schedule that is run at this step.

    `reverse` runs it backwards; `shuffle` puts its steps in random order. Both are one-to-one,
    so a control has the mixture of the original, strategy by strategy.
    """
    if order == "reverse":
        return max_steps - 1 - step
    if order == "shuffle":
        return int(shuffled_steps(max_steps, seed)[step])
    return step


@lru_cache(maxsize=4)
def shuffled_steps(max_steps: int, seed: int) -> np.ndarray:
    """int64 [max_steps]: the steps of a run in random order."""
    return generator(seed, "shuffled schedule").permutation(max_steps)


def plan_at(
    curriculum: Curriculum,
    masking: Masking,
    step: int,
    max_steps: int,
    switches: Sequence[int],
    seed: int,
) -> MaskingPlan:
    """How a step is masked: the same on all ranks and for all its micro-batches."""
    position = stage_position(curriculum, step, max_steps, switches, seed)
    params = params_at(curriculum, masking, position, step, max_steps, seed)
    lower = min(floor(position), len(curriculum.strategies) - 1)
    names, fraction = curriculum.strategies[lower : lower + 2], position - lower
    if fraction == 0.0:
        return MaskingPlan(names[:1], params=params)
    if curriculum.mix_by == "sequence":
        return MaskingPlan(names, fraction, params)
    # The random number belongs to the step of the forward schedule: a shuffled run has the same
    # batches.
    u = uniform(
        derive_key(seed, "strategy"), curriculum_step(curriculum.order, step, max_steps, seed)
    )
    return MaskingPlan(names[1:] if u < fraction else names[:1], params=params)


def params_at(
    curriculum: Curriculum, masking: Masking, position: float, step: int, max_steps: int, seed: int
) -> StrategyParams:
    """Mask ratio, span width and temperature at a step and its stage position."""
    ramps = curriculum.ramps
    relative_position = position / max(len(curriculum.strategies) - 1, 1)
    forward_step = curriculum_step(curriculum.order, step, max_steps, seed)

    def value(start: float, ramp: Ramp, logarithmic: bool = False) -> float:
        if ramp.schedule == "constant":
            return start
        progress = relative_position
        if ramp.schedule != "curriculum":
            progress = progress_curve(ramp.schedule, forward_step, max_steps)
        progress = round(progress * RAMP_LEVELS) / RAMP_LEVELS
        if logarithmic:
            return exp((1 - progress) * log(start) + progress * log(ramp.end))
        return (1 - progress) * start + progress * ramp.end

    return StrategyParams(
        value(masking.mask_ratio, ramps.mask_ratio),
        value(masking.span_width, ramps.span_width),
        value(masking.temperature, ramps.temperature, logarithmic=True),
        masking.budget,
    )


def max_token_fraction(
    curriculum: Curriculum,
    masking: Masking,
    token_fraction: Callable[[str, StrategyParams], float],
) -> float:
    """The largest expected fraction of masked tokens of a run.

    `token_fraction` tells it of a strategy with some params (`Masker.token_fraction`).
    """
    if masking.center_rate == "paper":
        return PAPER_MASK_RATIO
    starts = start_params(masking)
    ends = (
        (start,) if ramp.schedule == "constant" else (start, ramp.end)
        for start, ramp in (
            (starts.mask_ratio, curriculum.ramps.mask_ratio),
            (starts.span_width, curriculum.ramps.span_width),
            (starts.temperature, curriculum.ramps.temperature),
        )
    )
    return max(
        token_fraction(name, StrategyParams(ratio, span_width, temperature, masking.budget))
        for ratio, span_width, temperature in product(*ends)
        for name in curriculum.strategies
    )


def effective_span_width(curriculum: Curriculum, masking: Masking, windows: SpanWindows) -> float:
    """An upper bound of the tokens masked together: the mean of their squares over their mean."""
    ramp = curriculum.ramps.span_width
    span_width = max(masking.span_width, 0.0 if ramp.schedule == "constant" else ramp.end)
    return max(width(windows.wide), windows.overlap + 1 + 1.5 * span_width)


def start_params(masking: Masking) -> StrategyParams:
    """The parameters before any ramp: those of evaluation, the same throughout a run."""
    return StrategyParams(
        masking.mask_ratio, masking.span_width, masking.temperature, masking.budget
    )
