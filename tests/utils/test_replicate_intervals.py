"""Intervals cover the truth as often as their level; paired tests have their error rate."""

import math

import numpy as np
import pytest
from scipy import stats

from cmgems.utils.intervals import compare_by_task, sign_flip_p, summarize


def scores(generator, replicates, seeds, between, within):
    effect = between * generator.normal(size=(replicates, 1)) if replicates > 1 else 0.0
    return (0.7 + effect + within * generator.normal(size=(replicates, seeds))).tolist()


@pytest.mark.parametrize(
    ("replicates", "seeds", "between", "within"),
    [
        (10, 1, 0.02, 0.0),
        (10, 3, 0.02, 0.02),
        (10, 3, 0.0, 0.02),
        (5, 2, 0.02, 0.01),
        (3, 3, 0.02, 0.02),
        (1, 10, 0.0, 0.02),
    ],
)
def test_intervals_cover_the_truth_as_often_as_their_level(replicates, seeds, between, within):
    generator = np.random.default_rng(0)
    trials = 400
    covered = 0
    for _ in range(trials):
        summary = summarize(scores(generator, replicates, seeds, between, within), resamples=2000)
        covered += summary.low <= 0.7 <= summary.high
    # 95 %, of which 400 trials have a deviation of 1.1 %; percentiles may lose 2 more
    assert 0.91 <= covered / trials <= 0.985


def test_seeds_of_one_replicate_are_not_independent_repetitions():
    """Treating 3 seeds of 10 replicates as 30 scores would be far too sure."""
    generator = np.random.default_rng(1)
    values = scores(generator, 10, 3, between=0.03, within=0.003)
    summary = summarize(values)
    pooled = summarize([[v] for row in values for v in row])
    assert summary.high - summary.low > 1.5 * (pooled.high - pooled.low)
    assert (summary.mean, summary.count) == (pytest.approx(np.mean(values)), 30)
    assert summary.sd == pytest.approx(np.std(values, ddof=1))
    assert summarize(values) == summary


def test_what_cannot_be_resampled_has_no_interval():
    alone = summarize([[0.7]])
    assert (alone.mean, alone.count) == (0.7, 1)
    assert all(map(math.isnan, (alone.sd, alone.low, alone.high)))
    with pytest.raises(ValueError, match="no scores"):
        summarize([])
    same = summarize([[0.5]] * 10)
    assert (same.low, same.high) == (0.5, 0.5)


def test_sign_flips_equal_scipy():
    generator = np.random.default_rng(2)
    for n in (4, 9, 12):
        differences = generator.normal(0.5, 1, n)
        expected = stats.permutation_test(
            (differences,), np.sum, permutation_type="samples", n_resamples=10**6
        ).pvalue
        assert sign_flip_p(differences) == pytest.approx(expected)
    assert sign_flip_p(np.ones(5)) == 2 / 32
    assert sign_flip_p(np.zeros(5)) == 1.0
    assert sign_flip_p(np.ones(1)) == 1.0
    many = generator.normal(0.4, 1, 40)
    assert sign_flip_p(many) == pytest.approx(stats.ttest_1samp(many, 0).pvalue, abs=0.02)
    assert sign_flip_p(np.ones(40)) == 1 / 10_001


def test_sign_flips_are_wrong_as_often_as_their_level():
    generator = np.random.default_rng(3)
    p = np.array([sign_flip_p(generator.normal(size=10)) for _ in range(600)])
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.03)


def test_models_are_compared_replicate_by_replicate():
    """A small difference is found among replicates that vary far more: both models saw the same."""
    generator = np.random.default_rng(4)
    first, second = {}, {}
    for task, gain in (("a", 0.02), ("b", 0.0)):
        replicates = 0.7 + 0.05 * generator.normal(size=(10, 1))
        second[task] = (replicates + 0.003 * generator.normal(size=(10, 2))).tolist()
        first[task] = (replicates + gain + 0.003 * generator.normal(size=(10, 2))).tolist()
    first["only here"] = [[0.5]]
    a, b = compare_by_task(first, second)
    assert (a.task, b.task) == ("a", "b")
    assert a.difference.low < 0.02 < a.difference.high
    assert a.p == 2 / 1024
    assert a.p_holm == 2 * a.p
    assert b.p > 0.05
    with pytest.raises(ValueError, match="a: the two models have other replicates"):
        compare_by_task(first, {"a": [[0.5, 0.6]] * 9})
