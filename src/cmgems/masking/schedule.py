"""Which strategy masks when: pure functions of the step and of past validations."""

from collections.abc import Sequence
from itertools import pairwise
from math import exp

from cmgems.config import Curriculum, Plateau
from cmgems.draws import stream, uniform

# The first plateau of a k-mer model is the unigram entropy; below this share of it, it is left.
LEFT_FIRST_PLATEAU = 0.85


def hard_probability(
    curriculum: Curriculum, step: int, max_steps: int, switched_at: int | None
) -> float:
    """Probability that the batch of step 0 .. max_steps - 1 is masked by the hard strategy."""
    if curriculum.schedule == "linear":
        return linear(step, max_steps)
    if curriculum.schedule == "plateau":
        return float(switched_at is not None and step >= switched_at)
    return 0.0


def linear(step: int, max_steps: int) -> float:
    """CM-STEP: floor(100 t / T) / 100."""
    return (100 * step // max_steps) / 100


def chosen_strategy(strategies: Sequence[str], hard: float, seed: int, step: int) -> str:
    """The strategy of a step, the same on all ranks and for all its micro-batches."""
    return strategies[-1] if uniform(stream(seed, "strategy"), step) < hard else strategies[0]


def is_plateau(losses: Sequence[float], plateau: Plateau, unigram_entropy: float) -> bool:
    """Whether the easy stage has flattened at the last of its validations.

    Parameters
    ----------
    losses : cross-entropy in nats at each validation of the run so far, under the easy strategy
    plateau : rule, threshold, patience and smoothing
    unigram_entropy : float
        Nats of the tokens' own distribution, where training stands before it has learned anything
        of context. The `relative` rule waits until the loss is well below it.
    """
    if plateau.rule == "paper":
        drops = [exp(before) - exp(now) for before, now in pairwise(losses)]
    else:
        smooth = smoothed(losses, plateau.smoothing)
        left = LEFT_FIRST_PLATEAU * unigram_entropy
        drops = [
            (before - now) / before if before < left else float("inf")
            for before, now in pairwise(smooth)
        ]
    last = drops[-plateau.patience :]
    return len(last) == plateau.patience and all(drop < plateau.threshold for drop in last)


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Exponential mean: each value is mixed with the past, which has `weight`."""
    means: list[float] = []
    for value in values:
        means.append(weight * means[-1] + (1 - weight) * value if means else value)
    return means
