"""When a stage of a `plateau` curriculum is over: a pure function of its validation losses."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import exp

from cmgems.config.schema import Plateau

# The first plateau of a model of overlapping k-mers is the unigram entropy. Below this fraction of
# it, the plateau is left: the model copies bases from neighbours. Without overlap there is nothing
# to copy, and a loss below the entropy is knowledge of context.
LEFT_FIRST_PLATEAU = 0.85


def is_plateau(
    losses: Sequence[float],
    plateau: Plateau,
    unigram_entropy: float,
    first_stage: bool = True,
    copies: bool = True,
) -> bool:
    """Whether a stage has flattened at the last of its validations.

    `paper` is the authors' rule: perplexity changed by less than `threshold`, up or down, from one
    validation to the next. It depends on how often one validates and on how large the perplexity
    is.

    `relative` compares that drop with the largest drop of the stage, after smoothing the loss. A
    threshold of 0.04 means: 25 times slower than at its fastest. It compares perplexities and not
    their logarithms, because the logarithm has no knee: it keeps falling like a power of the step,
    and a threshold on it may be crossed anywhere (`tests/curriculum/test_plateau.py` has recorded
    curves).

    Parameters
    ----------
    losses : cross-entropy in nats at each validation of the stage so far, under its strategy
    plateau : rule, threshold; patience and smoothing of the `relative` rule
    unigram_entropy : float
        Nats of the tokens' own distribution, where training is before it has learned anything
        of context. The `relative` rule waits until the loss is well below it.
    first_stage : bool
        The stage began without knowledge of context: its first drop is that from the unigram
        entropy, not from the untrained model, which is worse.
    copies : bool
        Most masked tokens can be copied from neighbours: the tokens overlap.
    """
    if plateau.rule == "paper":
        return len(losses) > 1 and abs(exp(losses[-2]) - exp(losses[-1])) < plateau.threshold
    since_start = [unigram_entropy, *losses] if first_stage else losses
    last = _flat_by_relative_drop(since_start, plateau, unigram_entropy, copies)[
        -plateau.patience :
    ]
    return len(last) == plateau.patience and all(last)


def _flat_by_relative_drop(
    losses: Sequence[float], plateau: Plateau, unigram_entropy: float, copies: bool
) -> list[bool]:
    """Whether the loss is flat, at each validation but the first."""
    smooth = smoothed([min(loss, unigram_entropy) for loss in losses], plateau.smoothing)
    perplexity = [exp(loss) for loss in smooth]
    drops = [before - now for before, now in pairwise(perplexity)]
    left = (LEFT_FIRST_PLATEAU if copies else 1.0) * unigram_entropy
    return [
        loss < left and drop < plateau.threshold * steepest
        for loss, drop, steepest in zip(smooth[1:], drops, accumulate(drops, max), strict=True)
    ]


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Exponential mean: each value is mixed with the past, which has `weight`."""
    means: list[float] = []
    for value in values:
        means.append(weight * means[-1] + (1 - weight) * value if means else value)
    return means
