"""Intervals over seeds and windows: against plain loops, a bootstrap, and simulated truth."""

import numpy as np
import pytest
from scipy import stats

from cmgems.utils.crossed_intervals import crossed_interval, mean_squares
from cmgems.utils.intervals import mean_interval, ratio_interval


def simulate(generator, seeds, windows, by_seed, by_window, rest, mean=0.3):
    """Sums of windows with 20 to 60 bases, and the bases."""
    counts = generator.integers(20, 61, windows)
    values = mean + by_seed * generator.standard_normal((seeds, 1))
    values = values + by_window * generator.standard_normal(windows)
    values = values + rest * generator.standard_normal((seeds, windows))
    return values * counts, counts


def test_mean_squares_are_those_of_plain_loops():
    value = np.random.default_rng(0).standard_normal((3, 5))
    mean = sum(sum(row) for row in value) / 15
    seed = [sum(value[s]) / 5 for s in range(3)]
    window = [sum(value[s][w] for s in range(3)) / 3 for w in range(5)]
    left = [(value[s][w] - seed[s] - window[w] + mean) ** 2 for s in range(3) for w in range(5)]
    assert mean_squares(value) == pytest.approx(
        (
            5 * sum((x - mean) ** 2 for x in seed) / 2,
            3 * sum((x - mean) ** 2 for x in window) / 4,
            sum(left) / 8,
        )
    )


def test_equals_a_bootstrap_of_seeds_and_windows():
    """Owen's pigeonhole bootstrap (Ann Appl Stat 2007): rows and columns resampled; its variance
    counts the residual three times, which is small here."""
    generator = np.random.default_rng(1)
    sums, counts = simulate(generator, 30, 60, 0.1, 0.15, 0.05)
    means = []
    for _ in range(2000):
        rows, columns = generator.integers(0, 30, 30), generator.integers(0, 60, 60)
        means.append(sums[np.ix_(rows, columns)].sum() / counts[columns].sum() / 30)
    found = crossed_interval(sums, counts).difference
    assert found.mean == pytest.approx(sums.sum() / counts.sum() / 30)
    half = (found.high - found.low) / 2
    assert half == pytest.approx(2.02 * np.std(means), rel=0.06)


def test_is_the_interval_of_one_where_the_other_does_not_matter():
    """Of seeds alone where all windows are alike; nearly of windows where all seeds are."""
    generator = np.random.default_rng(2)
    sums, counts = simulate(generator, 4, 50, 0.1, 0.0, 0.0)
    wanted = mean_interval(sums.sum(1) / counts.sum())
    assert crossed_interval(sums, counts).difference == pytest.approx(wanted)
    sums, counts = simulate(generator, 1, 50, 0.0, 0.2, 0.0)
    sums = sums + 1e-9 * generator.standard_normal((4, 50))
    wanted = ratio_interval(sums[0], counts)
    found = crossed_interval(sums, counts).difference
    assert found[:3] == pytest.approx(wanted[:3], rel=1e-3)


@pytest.mark.parametrize(
    "spread", [(0.05, 0.0, 0.5), (0.0, 0.5, 0.5), (0.05, 0.4, 0.3), (0.2, 0.4, 0.1)]
)
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_covers_the_truth_of_other_seeds_and_other_windows(spread, seeds):
    """With two seeds whose means lie close together by chance, too, and far out in the tail, where
    p that is corrected for many comparisons comes from."""
    generator = np.random.default_rng(seeds)
    covered = rejected = surely = 0
    for _ in range(800):
        interval, p = crossed_interval(*simulate(generator, seeds, 100, *spread, mean=0.0))
        covered += interval.low <= 0 <= interval.high
        rejected += p < 0.05
        surely += p < 0.001
    assert covered + rejected == 800  # the interval and p say the same
    assert stats.binom.cdf(covered, 800, 0.95) > 0.005, covered
    assert stats.binom.sf(surely - 1, 800, 0.001) > 0.005, surely


def test_the_interval_ends_where_p_is_what_it_leaves_out():
    sums, counts = simulate(np.random.default_rng(4), 3, 50, 0.1, 0.1, 0.1)
    _, p = crossed_interval(sums, counts)
    interval = crossed_interval(sums, counts, 1 - p).difference
    assert min(abs(interval.low), abs(interval.high)) < 1e-9


def test_windows_without_bases_do_not_count_and_too_little_is_refused():
    generator = np.random.default_rng(3)
    sums, counts = simulate(generator, 3, 20, 0.1, 0.1, 0.1)
    more = np.pad(sums, ((0, 0), (0, 5)))
    assert crossed_interval(more, np.pad(counts, (0, 5))) == crossed_interval(sums, counts)
    for few in (sums[:1], sums[:, :1]):
        with pytest.raises(ValueError, match="wanted two of each or more"):
            crossed_interval(few, counts[: few.shape[1]])


def test_equal_models_are_not_told_apart():
    counts = np.full(10, 5)
    assert crossed_interval(np.zeros((3, 10)), counts).p == 1.0
    assert crossed_interval(np.ones((3, 10)), counts).p < 1e-20
