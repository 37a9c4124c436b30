"""How sure a mean over draws and seeds is, and whether two models differ.

`cmgems.intervals` has what is about seeds alone.

Contract
--------
values : a list of draws, each a list of the scores of its seeds: values[draw][seed]

Seeds of one draw share their examples, so they are no independent repetitions: draws are resampled,
each with all its seeds (hierarchical bootstrap: Davison and Hinkley, "Bootstrap methods and their
application", 1997, section 3.8, strategy 1). Resampling the seeds within a draw as well counts
their spread twice: where seeds alone differ it covered 99 % in a simulation, this one 94 %. The
interval speaks of draws and seeds on this test split; that the test split is itself a sample comes
on top.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from cmgems.draws import generator
from cmgems.intervals import holm, mean_interval

Values = Sequence[Sequence[float]]
RESAMPLES = 10_000
FEW = 8  # draws, below which the bootstrap has too few different resamples
EXACT_DRAWS = 13  # 2**13 sign patterns are fewer than RESAMPLES


class Summary(NamedTuple):
    """A mean with its interval; nan where there is nothing to resample."""

    mean: float
    sd: float  # of the single scores, over draws and seeds
    low: float
    high: float
    count: int  # scores


class Comparison(NamedTuple):
    """One model less another on a task, over the same draws and seeds."""

    task: str
    difference: Summary
    p: float  # two-sided, of a sign flip of the draws' differences
    p_holm: float  # corrected for all tasks of the comparison


def summarise(values: Values, level: float = 0.95, resamples: int = RESAMPLES) -> Summary:
    """Mean, standard deviation and interval; the same values give the same figures.

    The percentiles of the bootstrap are widened for the number of draws (Hesterberg, "What teachers
    should know about the bootstrap", The American Statistician 69 (2015) 371-386, expanded
    percentiles): plain ones cover too little with ten draws. Fewer than 8 draws have too few
    different resamples for any percentile: their interval is Student's.
    """
    every = np.array([score for seeds in values for score in seeds], float)
    if not len(every):
        raise ValueError("no scores to summarise")
    parts = _independent(values)
    mean, count = float(parts.mean()), len(every)
    sd = float(every.std(ddof=1)) if count > 1 else math.nan
    if len(parts) < 2:
        return Summary(mean, sd, math.nan, math.nan, count)
    if len(parts) < FEW:
        student = mean_interval(parts, level)
        return Summary(mean, sd, float(student.low), float(student.high), count)
    rng = generator(0, "hierarchical bootstrap")
    taken = rng.integers(0, len(parts), (resamples, len(parts)))
    tail = expanded_tail(len(parts), level)
    low, high = np.quantile(parts[taken].mean(axis=1), [tail, 1 - tail])
    return Summary(mean, sd, float(low), float(high), count)


def _independent(values: Values) -> np.ndarray:
    """What is independent of each other: the means of the draws, or the seeds of a single draw."""
    return np.array(values[0] if len(values) == 1 else [np.mean(seeds) for seeds in values], float)


def expanded_tail(groups: int, level: float) -> float:
    """The share to cut off at each end of the bootstrap, so that the interval of a mean of
    `groups` values is as wide as Student's."""
    t = stats.t.ppf((1 + level) / 2, groups - 1)
    return float(stats.norm.cdf(-math.sqrt(groups / (groups - 1)) * t))


def compare(first: Mapping[str, Values], second: Mapping[str, Values]) -> list[Comparison]:
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
    corrected = holm(p_values).tolist()
    return [
        Comparison(name, summarise(values), p, p_holm)
        for name, values, p, p_holm in zip(names, differences, p_values, corrected, strict=True)
    ]


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided p of the mean of paired differences, under any flip of their signs.

    Exact up to 13 differences, of which the least p is 2 / 2**n: five draws cannot show p < 0.0625.
    """
    n = len(differences)
    if n <= EXACT_DRAWS:
        signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        extra = 0
    else:
        rng = generator(0, "sign flips")
        signs = 1 - 2 * rng.integers(0, 2, (RESAMPLES, n))
        extra = 1  # the observed signs are one of the patterns
    flipped = np.abs(signs @ differences)
    # rounding must not make a pattern smaller than its own mirror image
    found = int((flipped >= abs(differences.sum()) * (1 - 1e-12)).sum())
    return (found + extra) / (len(signs) + extra)
