"""PMI of n-grams of tokens: counts and scores against all segmentations."""

import numpy as np
import pytest
from references.bpe import npmi

from cmgems.difficulty.ngrams import ngram_table
from cmgems.utils.ngram_keys import key_bits, max_tokens


def pieces_of(generator, tokens=6, count=12):
    """Pieces with frequent n-grams in them."""
    words = [generator.integers(5, 5 + tokens, n) for n in (2, 3, 4, 5, 6)]
    return [
        np.concatenate([words[i] for i in generator.integers(0, len(words), 30)]).tolist()
        for _ in range(count)
    ]


def ngram_of(key, bits):
    ids = []
    while key:
        ids.append(int(key) & (1 << bits) - 1)
        key = int(key) >> bits
    return tuple(ids[::-1])


@pytest.mark.parametrize("min_count", [2, 10, 40])
def test_equals_the_minimum_over_all_segmentations(min_count):
    pieces = pieces_of(np.random.default_rng(min_count))
    ids = np.concatenate(pieces).astype(np.uint16)
    ends = np.cumsum([len(piece) for piece in pieces])
    table = ngram_table(ids, ends, 11, 5, min_count)
    wanted = npmi(pieces, min_count)
    assert len(table.keys) == len(wanted) > 20
    for key, count, score in zip(table.keys, table.ngram_counts, table.npmi, strict=True):
        found = wanted[ngram_of(key, key_bits(11))]
        assert (count, score) == (found[0], pytest.approx(found[1]))
    assert {len(ngram_of(key, key_bits(11))) for key in table.keys} == {2, 3, 4, 5}
    ranks = table.rank[: len(table.keys)]
    assert sorted(ranks) == list(range(1, len(ranks) + 1))
    assert (np.diff(table.npmi[np.argsort(ranks)]) <= 0).all()
    # tokens alone are behind all n-grams, in the order of their ids
    assert table.rank[len(ranks) :].tolist() == list(range(len(ranks) + 1, len(ranks) + 7))
    assert table.counts.tolist() == [(ids == id_).sum() for id_ in range(5, 11)]


def test_the_best_are_kept():
    pieces = pieces_of(np.random.default_rng(0))
    ids, ends = np.concatenate(pieces).astype(np.uint16), np.cumsum([len(x) for x in pieces])
    everything = ngram_table(ids, ends, 11, 5, 2)
    best = ngram_table(ids, ends, 11, 5, 2, most=15)
    assert len(best.keys) == 15
    assert sorted(best.npmi)[0] == sorted(everything.npmi)[-15]
    assert (np.diff(best.keys) > 0).all()


def test_no_ngram_is_frequent():
    table = ngram_table(np.arange(5, 11).astype(np.uint16), np.array([6]), 11, 5, 3)
    assert len(table.keys) == 0
    assert table.rank.tolist() == [1, 2, 3, 4, 5, 6]


def test_keys_fit_into_63_bits():
    assert [max_tokens(size) for size in (16, 4096, 4097, 32_768)] == [5, 5, 4, 4]
