"""Intervals and tests against simulated data whose truth is known; seeds are fixed."""

import math

import numpy as np
import pytest
from scipy import stats

from cmgems.utils.intervals import (
    bootstrap_means,
    holm_correction,
    mean_interval,
    paired_t_test,
    ratio_interval,
)

WORLDS = 2000  # simulated experiments: the coverage is then known to within 0.01 (two errors)


def coverage(compute_interval, count, rng):
    """Fraction of experiments of `count` repetitions whose interval holds the true mean."""
    hits = 0
    for _ in range(WORLDS):
        low, high = compute_interval(rng.normal(3.0, 2.0, count))
        hits += low <= 3.0 <= high
    return hits / WORLDS


@pytest.mark.parametrize("count", [2, 3, 10])
def test_a_mean_is_covered_as_often_as_its_level(count):
    rng = np.random.default_rng(count)
    covered = coverage(lambda values: mean_interval(values)[1:3], count, rng)
    assert covered == pytest.approx(0.95, abs=0.015)


def test_resampling_three_seeds_would_not_cover():
    """Why `bootstrap_means` has Student's weights."""
    rng = np.random.default_rng(0)

    def percentiles(values):
        means = rng.choice(values, (500, len(values))).mean(1)
        return np.quantile(means, [0.025, 0.975])

    assert coverage(percentiles, 3, rng) < 0.82


def test_bootstrap_means_cover_at_each_step_and_for_sums_over_steps():
    rng = np.random.default_rng(1)
    scale_T = np.array([0.5, 1.0, 4.0])
    sum_T = np.array([1.0, -2.0, 0.3])
    hits = np.zeros(4)
    for _ in range(WORLDS):
        shared_R1 = rng.standard_normal((3, 1))  # seeds differ over the whole curve
        curves_RT = scale_T * (shared_R1 + 0.3 * rng.standard_normal((3, 3)))
        means_ST = bootstrap_means(curves_RT, 400, rng)
        values_S4 = np.column_stack([means_ST, means_ST @ sum_T])
        low, high = np.quantile(values_S4, [0.025, 0.975], axis=0)
        hits += (low <= 0) & (high >= 0)
    assert hits / WORLDS == pytest.approx(np.full(4, 0.95), abs=0.02)


def test_bootstrap_means_follow_student():
    values = np.array([1.0, 2.0, 6.0])
    means = bootstrap_means(values[:, None], 20_000, np.random.default_rng(2))[:, 0]
    error = values.std(ddof=1) / np.sqrt(3)
    assert stats.kstest((means - 3.0) / error, "t", args=(2,)).pvalue > 0.01
    with pytest.raises(ValueError, match="found 1 repetitions"):
        bootstrap_means(values[None], 10, np.random.default_rng(0))


def test_the_paired_t_test_is_the_test_of_the_differences():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=5), rng.normal(size=5)
    test = paired_t_test(a, b)
    expected = stats.ttest_rel(a, b)
    assert test.p == pytest.approx(expected.pvalue)
    assert test.difference[1:3] == pytest.approx(tuple(expected.confidence_interval()))
    assert test.difference.mean == pytest.approx((a - b).mean())


def test_the_paired_t_test_raises_false_alarms_as_often_as_its_level():
    rng = np.random.default_rng(4)
    alarms = [
        paired_t_test(seed + rng.normal(size=3), seed + rng.normal(size=3)).p < 0.05
        for seed in rng.normal(0, 10, (WORLDS, 3))
    ]
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.015)


def test_one_repetition_has_no_interval():
    assert np.isnan(mean_interval([1.0]).low)
    assert np.isnan(paired_t_test([1.0], [2.0]).p)
    assert paired_t_test([1.0, 1.0], [1.0, 1.0]).p == 1.0
    assert paired_t_test([2.0, 3.0], [1.0, 2.0]).p == 0.0


def test_holm_equals_its_definition():
    assert holm_correction([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm_correction([0.5, 0.9, 0.6]) == pytest.approx([1.0, 1.0, 1.0])
    corrected = holm_correction([0.02, np.nan, 0.01])
    assert corrected[[0, 2]] == pytest.approx([0.02, 0.02])
    assert np.isnan(corrected[1])


def test_holm_bounds_the_chance_of_any_false_alarm():
    rng = np.random.default_rng(5)
    false = rng.uniform(size=(WORLDS, 8))
    assert np.mean([(holm_correction(row) < 0.05).any() for row in false]) < 0.065


def test_ratio_interval_of_equal_clusters_is_students():
    """Clusters of three items each: the mean of their means."""
    sums = np.array([3.0, 6.0, 4.5, 9.0, 1.5])
    found, wanted = ratio_interval(sums, np.full(5, 3)), mean_interval(sums / 3)
    assert found == pytest.approx(wanted)


def test_ratio_interval_leaves_out_empty_clusters_and_counts_items():
    found = ratio_interval(np.array([2.0, 0.0, 9.0, 0.0]), np.array([1, 0, 3, 0]))
    assert (found.mean, found.count) == (pytest.approx(11 / 4), 2)
    # by hand: residuals 2 - 2.75 and 9 - 8.25, t of one degree of freedom
    half = 12.7062 * math.sqrt(2 * (0.75**2 + 0.75**2)) / 4
    assert found.high - found.mean == pytest.approx(half, rel=1e-5)
    assert math.isnan(ratio_interval(np.array([2.0]), np.array([4])).low)
    with pytest.raises(ValueError, match="no items"):
        ratio_interval(np.zeros(3), np.zeros(3))


@pytest.mark.parametrize(("clusters", "tolerance"), [(40, 0.03), (500, 0.015)])
def test_a_mean_per_base_over_windows_is_covered_as_often_as_its_level(clusters, tolerance):
    """Some windows are repeats, whose bases cost less and are more: sizes go with means. (Bases
    taken for independent of each other would be covered half as often.)"""
    rng = np.random.default_rng(clusters)
    truth = (0.2 * 39.5 * 1.0 + 0.8 * 19.5 * 1.95) / (0.2 * 39.5 + 0.8 * 19.5)
    hits = naive_hits = 0
    for _ in range(WORLDS):
        repeat = rng.random(clusters) < 0.2
        counts = np.where(repeat, rng.integers(20, 60, clusters), rng.integers(0, 40, clusters))
        means = np.where(repeat, rng.normal(1.0, 0.5, clusters), rng.normal(1.95, 0.1, clusters))
        bases = rng.normal(np.repeat(means, counts), 0.3)
        sums = np.bincount(np.repeat(np.arange(clusters), counts), bases, minlength=clusters)
        found, naive = ratio_interval(sums, counts), mean_interval(bases)
        hits += found.low <= truth <= found.high
        naive_hits += naive.low <= truth <= naive.high
    assert hits / WORLDS == pytest.approx(0.95, abs=tolerance)
    assert naive_hits / WORLDS < 0.6
