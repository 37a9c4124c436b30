"""Dinucleotide shuffles: the same pairs, the same ends, each possible sequence equally often."""

from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cmgems.tasks.shuffling import dinucleotide_shuffled
from cmgems.utils.rng import derive_key


def pairs(codes):
    return Counter(pairwise(codes))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=60), st.integers(0, 2**64 - 1))
def test_pairs_and_ends_stay(bases, seed):
    codes = np.array(bases, np.uint8)
    before = codes.copy()
    shuffled = dinucleotide_shuffled(codes, seed)
    assert shuffled.dtype == np.uint8
    assert pairs(shuffled.tolist()) == pairs(bases)
    if bases:
        assert shuffled[0] == bases[0]
        assert shuffled[-1] == bases[-1]
    assert (codes == before).all()
    assert (shuffled == dinucleotide_shuffled(codes, seed)).all()


def possible(bases):
    """All sequences with the pairs and the first base of `bases`."""
    wanted = pairs(bases)
    return sorted(
        order
        for order in {(bases[0], *rest) for rest in permutations(bases[1:])}
        if pairs(order) == wanted
    )


@pytest.mark.parametrize(
    "bases", [(0, 1, 0, 2, 0, 3, 0), (0, 1, 1, 0, 0, 1, 2, 1), (2, 0, 1, 0, 2, 2, 1, 0)]
)
def test_each_possible_sequence_is_equally_likely(bases):
    sequences = possible(bases)
    assert len(sequences) >= 4
    codes = np.array(bases, np.uint8)
    draws = 400 * len(sequences)
    key = derive_key(0, "test of shuffling")
    found = Counter(tuple(dinucleotide_shuffled(codes, key + i).tolist()) for i in range(draws))
    assert set(found) == set(sequences)
    assert stats.chisquare([found[s] for s in sequences]).pvalue > 0.001


def test_human_dna_is_really_shuffled(genome):
    window = np.array(genome.codes[100_000:100_200])
    shuffled = dinucleotide_shuffled(window, 1)
    # about as different as two unrelated places of that composition
    assert 0.5 < (shuffled != window).mean() < 0.9
    assert (shuffled != dinucleotide_shuffled(window, 2)).any()
