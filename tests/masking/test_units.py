"""Strategies on byte pairs, whose wide windows are n-grams: against the slow references."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references.masking import REFERENCES, Pairs, drawn_centers

from cmgems.masking.ops import draw_centers
from cmgems.masking.strategies import STRATEGIES
from cmgems.masking.strategies.pmi_ranked import _permutation
from cmgems.masking.types import CENTERS, RankTables, StrategyInput, StrategyParams
from cmgems.tokenization import BytePairs
from cmgems.tokenization.base import UNK
from cmgems.tokenization.bpe import Ngrams
from cmgems.utils.kernels import force_torch_path
from cmgems.utils.ngram_keys import key_bits
from cmgems.utils.rng import derive_key, sequence_keys

TOKENS = (*"ACGT", "AA", "AC")
PLAIN = BytePairs(TOKENS, (("A", "A"), ("A", "C")))


def key_of(ngram):
    key = 0
    for id_ in ngram:
        key = key << key_bits(PLAIN.vocab_size) | id_
    return key


@st.composite
def batches(draw_):
    ids = st.integers(5, 4 + len(TOKENS))
    ngrams = draw_(st.sets(st.lists(ids, min_size=2, max_size=5).map(tuple), max_size=25))
    ngrams = sorted(ngrams, key=key_of)
    width = draw_(st.integers(1, 30))
    row = st.lists(ids | st.sampled_from([0, UNK]), min_size=width, max_size=width)
    rows = draw_(st.lists(row, min_size=1, max_size=3))
    ranks = draw_(st.permutations(range(1, len(ngrams) + 1)))
    tuned = StrategyParams(0.15, draw_(st.floats(1, 9)), draw_(st.sampled_from([0.001, 0.1, 10.0])))
    rate = draw_(st.sampled_from([0.0, 0.05, 0.3, 1.0]))
    return ngrams, ranks, torch.tensor(rows, dtype=torch.int32), rate, tuned


def tokens_of(ngrams, ranks, ids_BK, rate, tuned):
    keys = np.array([key_of(ngram) for ngram in ngrams], np.int64)
    units = Ngrams(keys, np.array(ranks, np.int32))
    tokenization = BytePairs(TOKENS, PLAIN.merges, ngrams=units)
    alone = len(ranks) + 1 + np.arange(len(TOKENS))
    rank_V = torch.tensor([*ranks, *alone], dtype=torch.int32)
    keys_B2 = torch.from_numpy(sequence_keys(derive_key(1, "masks"), np.arange(len(ids_BK))))
    maskable_BK = tokenization.is_maskable(ids_BK)
    rate_B1 = torch.full((len(ids_BK), 1), rate)
    centers_BK = draw_centers(maskable_BK, keys_B2, rate_B1, CENTERS)
    ranks = RankTables.before_training(rank_V)
    tokens = StrategyInput(tokenization, ids_BK, maskable_BK, centers_BK, keys_B2, ranks)
    return tokens._replace(params=tuned)


@pytest.mark.parametrize("name", STRATEGIES)
@given(batches())
@settings(max_examples=60, deadline=None)
def test_both_paths_equal_the_slow_reference(name, batch):
    ngrams, ranks, ids_BK, rate, tuned = batch
    tokens = tokens_of(*batch)
    mask_BK = STRATEGIES[name](tokens)
    with force_torch_path():
        assert torch.equal(STRATEGIES[name](tokens_of(*batch)), mask_BK)
    rank_V = tokens.ranks.pmi_V
    if name == "shuffled_pmi":
        rank_V = rank_V[_permutation(len(rank_V), rank_V.device)]
    slow = Pairs(
        {ngram: place for place, ngram in enumerate(ngrams)},
        dict(zip(ngrams, ranks, strict=True)),
        PLAIN._thousandths / 1000,
    )
    for row, ids in enumerate(ids_BK.tolist()):
        key = [int(word) % 2**32 for word in tokens.keys_B2[row]]
        centers = drawn_centers(ids, slow, key, float(np.float32(rate)))
        wanted = REFERENCES[name](ids, centers, rank_V.tolist(), slow, key, tuned)
        assert set(mask_BK[row].nonzero()[:, 0].tolist()) == wanted


def test_the_units_are_part_of_what_a_graph_and_a_cache_depend_on():
    batch = ([(5, 6)], [1], torch.tensor([[5, 6, 7]], dtype=torch.int32), 1.0, StrategyParams())
    other = ([(6, 7)], *batch[1:])
    assert repr(tokens_of(*batch).tokenization) != repr(tokens_of(*other).tokenization)
