"""Markov references: against brute force over all fillings, and on DNA whose entropy is known."""

from itertools import product

import numpy as np
import pytest

from cmgems.difficulty.counts import count_words
from cmgems.difficulty.markov import (
    bits_of,
    count_stretches,
    fit,
    longest_word,
    predict_bases,
    predict_hidden,
)
from cmgems.genome.spans import Spans


def chain(bases, seed=0):
    """DNA of order 1 in which a base repeats itself with probability 0.7; its transitions."""
    generator = np.random.default_rng(seed)
    transitions = np.full((4, 4), 0.1) + 0.6 * np.eye(4)
    codes = np.zeros(bases, np.uint8)
    stays, others = generator.random(bases), generator.integers(0, 4, bases)
    for i in range(1, bases):
        codes[i] = codes[i - 1] if stays[i] < 0.6 else others[i]
    return codes, transitions


def brute_force(model, visible, first, end):
    """float [end - first, 4], by summing over all fillings, base by base."""
    sums = np.zeros((end - first, 4))
    left, right = first, end
    while left > 0 and visible[left - 1] < 4:
        left -= 1
    while right < len(visible) and visible[right] < 4:
        right += 1
    for filling in product(range(4), repeat=end - first):
        sequence = [*visible[left:first], *filling, *visible[end:right]]
        probability = 1.0
        for i in range(first - left, min(len(sequence), end - left + model.order)):
            context = sequence[max(0, i - model.order) : i]
            index = 0
            for base in [*context, sequence[i]]:
                index = 4 * index + int(base)
            probability *= model.tables[len(context)][index]
        for i, base in enumerate(filling):
            sums[i, base] += probability
    return sums / sums.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def human_model(genome):
    return fit(count_words(np.array(genome.codes[:300_000]), 5).tables)


@pytest.mark.parametrize("start", [0, 1, 9, 37])
@pytest.mark.parametrize("length", [1, 3])
def test_predicts_from_both_sides_like_brute_force(start, length, human_model, genome):
    codes = np.array(genome.codes[1_000_000:1_000_040])
    visible, wanted = codes.copy(), np.zeros(40, bool)
    wanted[start : start + length] = True
    visible[wanted] = 4
    visible[20] = 4  # an unknown base ends a context
    predicted = predict_bases(human_model, visible[None], wanted[None])
    assert predicted == pytest.approx(brute_force(human_model, visible, start, start + length))


def test_finds_the_order_of_a_chain_and_its_entropy():
    """-0.7 log2 0.7 - 3 x 0.1 log2 0.1 = 1.3568 bits."""
    codes, _ = chain(400_000)
    model = fit(count_words(codes, 6).tables)
    assert model.order >= 1
    assert model.left_out_bits[0] == pytest.approx(2.0, abs=0.001)
    assert model.left_out_bits[1] == pytest.approx(1.3568, abs=0.005)
    assert min(model.left_out_bits[2:]) > model.left_out_bits[1] - 1e-4  # no more to be had


def test_a_base_between_two_known_ones_in_a_chain():
    """P(x | a, b) is proportional to P(a, x) P(x, b): with equal neighbours 0.49 against 0.01."""
    codes, transitions = chain(400_000)
    model = fit(count_words(codes, 3).tables)
    visible = np.array([[0, 4, 0], [1, 4, 2]], np.uint8)
    wanted = visible == 4
    predicted = predict_bases(model, visible, wanted)
    for row, (a, b) in enumerate([(0, 0), (1, 2)]):
        exact = transitions[a] * transitions[:, b]
        assert predicted[row] == pytest.approx(exact / exact.sum(), abs=0.01)


def test_random_dna_cannot_be_predicted():
    codes = np.random.default_rng(0).integers(0, 4, 500_000).astype(np.uint8)
    model = fit(count_words(codes[:400_000], 7).tables)
    rows = codes[400_000:].reshape(-1, 100)
    wanted = np.zeros(rows.shape, bool)
    wanted[:, 40:46] = True
    bits_H = bits_of(predict_hidden(model, rows, wanted, wanted), rows[wanted])
    assert len(bits_H) == 6 * len(rows)
    assert bits_H.mean() == pytest.approx(2.0, abs=0.01)


def test_bits_of_the_true_bases():
    chance = np.array([[0.5, 0.25, 0.125, 0.125], [0.0, 0.0, 1.0, 0.0]], np.float32)
    assert bits_of(chance, np.array([1, 2])).tolist() == [2.0, 0.0]


def test_other_hidden_bases_are_no_context(human_model, genome):
    """What is hidden next to the wanted run does not change its prediction."""
    codes = np.array(genome.codes[2_000_000:2_000_030])[None]
    wanted, hidden = np.zeros((1, 30), bool), np.zeros((1, 30), bool)
    wanted[0, 10:13] = hidden[0, 10:13] = hidden[0, 14:20] = True
    other = codes.copy()
    other[0, 14:20] = 3 - other[0, 14:20]
    found, same = (predict_hidden(human_model, c, hidden, wanted) for c in (codes, other))
    assert np.array_equal(found, same)
    assert not np.array_equal(found, predict_hidden(human_model, codes, wanted, wanted))


@pytest.mark.parametrize("chunk", [1 << 22, 50])
def test_stretches_are_counted_apart_and_as_often_as_they_are_given(chunk, monkeypatch, genome):
    monkeypatch.setattr("cmgems.difficulty.markov._CHUNK", chunk)
    codes = np.array(genome.codes[:3000])
    first = Spans(np.array([0, 2000, 2000]), np.array([1000, 3000, 3000]))
    counts = count_stretches(codes, [first, Spans(np.array([1000]), np.array([1009]))])
    parts = [
        count_words(codes[a:b], 12).tables
        for a, b in ((0, 1000), (2000, 3000), (2000, 3000), (1000, 1009))
    ]
    for order in range(12):
        assert np.array_equal(counts[order], sum(part[order] for part in parts))


def test_words_longer_than_the_longest_know_no_more(genome):
    """Of 3,000 bases: order 10; order 11 predicts other DNA no better, by a thousandth of a bit."""
    assert [longest_word(n) for n in (0, 1, 3000, 4097, 10**9)] == [5, 5, 11, 12, 12]
    codes, rest = np.array(genome.codes[:3000]), np.array(genome.codes[3000:9000]).reshape(60, 100)
    wanted = np.zeros(rest.shape, bool)
    wanted[:, 30:33] = wanted[:, 60:63] = True
    spans, bits = Spans(np.array([0]), np.array([3000])), []
    for longest in (longest_word(3000), 12):
        model = fit(count_stretches(codes, [spans], longest))
        bits.append(bits_of(predict_hidden(model, rest, wanted, wanted), rest[wanted]).mean())
    assert bits[0] == pytest.approx(bits[1], abs=1e-3)


def test_the_tables_of_every_order_are_distributions(human_model):
    for order, table in enumerate(human_model.tables):
        assert table.reshape(-1, 4).sum(1) == pytest.approx(np.ones(4**order), abs=1e-5)
