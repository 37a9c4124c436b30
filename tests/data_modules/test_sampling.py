"""Turns of several genomes: against a sort of all windows by exact fractions."""

from fractions import Fraction

import numpy as np
import pytest

from cmgems.data_modules.sampling import (
    EpochWindows,
    GenomeShare,
    MixedWindows,
    WindowSampling,
    genome_seed,
    sample_epoch,
    sample_mixed_epoch,
    take_turns,
)
from cmgems.genome.spans import Spans

SAMPLING = WindowSampling(full_length=50, min_length=6, full_length_fraction=0.5)


def one_after_the_other(weights, count):
    """(genome, number) of the first windows: the one that is due next, as exact fractions."""
    due = [
        (Fraction(2 * number + 1, 2) * sum(weights) / weight, genome, number)
        for genome, weight in enumerate(weights)
        for number in range(count)
    ]
    return [(genome, number) for _, genome, number in sorted(due)[:count]]


@pytest.mark.parametrize("weights", [(1,), (1, 1), (2, 1), (1, 3, 3), (1, 500), (7, 5, 3, 2, 1)])
def test_turns_are_those_of_a_sort_and_a_function_of_the_number(weights):
    wanted = one_after_the_other(weights, 600)
    shares = [weight / sum(weights) for weight in weights]
    for first, count in ((0, 600), (0, 1), (1, 7), (299, 4), (577, 23)):
        found = take_turns(shares, first, count)
        assert list(zip(*map(np.ndarray.tolist, found), strict=True)) == wanted[first:][:count]
    genome = np.array([genome for genome, _ in wanted])
    for number, share in enumerate(shares):  # of any number of windows, the share
        error = (genome == number).cumsum() - share * np.arange(1, 601)
        assert np.abs(error).max() <= (len(weights) + 1) / 2


def test_turns_far_ahead_are_found_at_once():
    found = take_turns([0.3, 0.7], 10**12, 10)
    assert sorted(found.genome.tolist()) == [0] * 3 + [1] * 7
    assert abs(found.number[found.genome == 0][0] - 3 * 10**11) <= 1
    assert abs(found.number[found.genome == 1][0] - 7 * 10**11) <= 1


def spans(first, last):
    return Spans(np.array([first]), np.array([last]))


def test_each_genome_goes_through_its_own_epochs():
    """Those of one that is small are many while a large one is in its first."""
    large, small = spans(0, 60_000), spans(70_000, 73_000)
    mixed = MixedWindows([GenomeShare(large, 0.75), GenomeShare(small, 0.25)], SAMPLING, seed=5)
    found = mixed.windows(0, 1200)
    is_small = found.start >= 70_000
    assert is_small.sum() == 300
    alone = EpochWindows(large, SAMPLING, seed=5).windows(0, 900)
    assert np.array_equal(found.start[~is_small], alone.start)
    assert np.array_equal(found.length[~is_small], alone.length)
    epochs = [sample_epoch(small, SAMPLING, genome_seed(5, 1), epoch).start for epoch in range(9)]
    assert np.array_equal(found.start[is_small], np.concatenate(epochs)[:300])
    assert sum(map(len, epochs[:3])) < 300  # the fourth has begun
    again = MixedWindows(
        [GenomeShare(large, 0.75), GenomeShare(small, 0.25)], SAMPLING, seed=5
    ).windows(737, 41)
    assert np.array_equal(again.start, found.start[737:778])
    assert np.array_equal(again.length, found.length[737:778])


def test_windows_of_validation_are_each_once_in_the_shares_until_a_genome_has_none_left():
    genomes = [GenomeShare(spans(0, 30_000), 0.5), GenomeShare(spans(40_000, 45_000), 0.5)]
    found = sample_mixed_epoch(genomes, SAMPLING, seed=0)
    first, second = (sample_mixed_epoch([genome], SAMPLING, seed=0) for genome in genomes)
    assert np.array_equal(first.start, sample_epoch(genomes[0].spans, SAMPLING, 0, 0).start)
    is_second = found.start >= 40_000
    assert np.array_equal(found.start[~is_second], first.start)
    few = int(is_second.sum())
    assert 0.7 * len(second.start) < few < 1.3 * len(second.start)
    assert is_second[: 2 * few].sum() == few
    assert not is_second[2 * few :].any()
    assert (np.sort(found.start[is_second])[1:] > np.sort(found.start[is_second])[:-1]).all()
