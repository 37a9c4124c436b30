"""Baselines and the probe: features as counted by hand; what is planted is found."""

from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
from helpers.labelled_samples import random_sequences
from scipy.optimize import minimize

from cmgems.evaluation.linear.baselines import (
    BASELINES,
    gc_baseline,
    gc_content,
    kmer_baseline,
    kmer_counts,
    one_hot,
    one_hot_baseline,
)
from cmgems.evaluation.linear.models import (
    STRENGTHS,
    Target,
    best_strength,
    fit,
    make_folds,
    predict,
    sample_for_selection,
)
from cmgems.evaluation.linear.probe import probe, standardize
from cmgems.evaluation.linear.side_by_side import FACTORS, states_beside_counts
from cmgems.evaluation.metrics import score
from cmgems.tasks.dataset import from_sequences
from cmgems.tokenization import OverlappingKmers


def planted(count, seed, place=None, length=60, word="GATTACA"):
    """Random sequences, in every second of which a word stands: at `place`, or anywhere."""
    generator = np.random.default_rng(seed)
    found = random_sequences(count, length, seed)
    for i in range(0, count, 2):
        at = place if place is not None else int(generator.integers(0, length - len(word)))
        found[i] = found[i][:at] + word + found[i][at + len(word) :]
    labels = np.arange(count) % 2 == 0
    return from_sequences(found, labels.astype(np.int64))


@pytest.mark.parametrize("k", [1, 3, 6])
def test_kmers_are_counted_as_by_hand(k):
    found = [*random_sequences(20, 50), "ACGTNACGTACN", "AC", "", "NNNN"]
    table = kmer_counts(from_sequences(found, np.zeros(len(found))), k).toarray()
    words = OverlappingKmers(k).vocabulary[5:]
    for row, text in zip(table, found, strict=True):
        counts = Counter(text[i : i + k] for i in range(len(text) - k + 1))
        assert row.tolist() == [counts[word] for word in words]


def test_on_both_strands_a_sequence_and_its_reverse_complement_count_alike():
    train, test = planted(200, 0), planted(100, 1).reverse_complement()
    counts = kmer_counts(test, 3, strands=2).toarray()
    assert np.array_equal(counts, kmer_counts(test.reverse_complement(), 3, strands=2).toarray())
    assert counts.sum(1).tolist() == [2 * (60 - 3 + 1)] * len(test)
    accuracies = [
        score(
            kmer_baseline(train, test, "binary", 2, strands=n).logits, test.labels, "binary"
        ).metrics()["accuracy"]
        for n in (1, 2)
    ]
    assert accuracies[0] < 0.65
    assert accuracies[1] > 0.9


def test_bases_are_laid_middle_on_middle():
    data = from_sequences(["ACGT", "AACGTT", "CG", "ANGT", ""], np.zeros(5))
    table = one_hot(data, 4).toarray().reshape(5, 4, 4)
    a, t, c, g, n = [*np.eye(4), np.zeros(4)]
    assert table[0].tolist() == np.array([a, c, g, t]).tolist()
    assert table[1].tolist() == np.array([a, c, g, t]).tolist()  # both ends are cut off
    assert table[2].tolist() == np.array([n, c, g, n]).tolist()
    assert table[3].tolist() == np.array([a, n, g, t]).tolist()
    assert table[4].tolist() == np.zeros((4, 4)).tolist()


def test_each_baseline_finds_what_it_can_see():
    """A word anywhere is for the counts, a word at its place for the bases too."""
    train, test = planted(300, 1), planted(300, 2)
    counts = kmer_baseline(train, test, "binary", 2)
    assert counts.chosen["k"] >= 4  # the word has 7 letters
    assert score(counts.logits, test.labels, "binary").accuracy > 0.8
    bases = one_hot_baseline(train, test, "binary", 2)
    assert score(bases.logits, test.labels, "binary").accuracy < 0.65
    train, test = planted(200, 1, place=20), planted(200, 2, place=20)
    bases = one_hot_baseline(train, test, "binary", 2)
    assert score(bases.logits, test.labels, "binary").accuracy > 0.95


@pytest.fixture
def few_k(monkeypatch):
    """Three values of k to choose from, where the choice is not what is tested."""
    monkeypatch.setattr("cmgems.evaluation.linear.baselines.K_CHOICES", (1, 2, 3))


def test_where_nothing_is_planted_nothing_is_found(few_k):
    train, test = planted(100, 1, word=""), planted(1000, 2, word="")
    for baseline in BASELINES.values():
        accuracy = score(baseline(train, test, "binary", 2).logits, test.labels, "binary").accuracy
        assert abs(accuracy - 0.5) < 0.06


def test_baselines_are_the_same_twice_and_see_no_test_labels(few_k):
    train, test = planted(30, 1), planted(30, 2)
    other = from_sequences([test.text(i) for i in range(30)], 1 - test.labels)
    for baseline in BASELINES.values():
        first, second = baseline(train, test, "binary", 2), baseline(train, other, "binary", 2)
        assert first.chosen == second.chosen
        assert (first.logits == second.logits).all()


def test_gc_content_is_that_of_the_known_bases():
    data = from_sequences(["ACGT", "GGCCN", "NNNN", "AAAA"], np.array([0, 1, 1, 0]))
    assert gc_content(data) == pytest.approx([0.5, 1.0, 0.5, 0.0])
    logits = gc_baseline(data, data, "binary", 2).logits
    assert (np.diff(logits)[:, 0].argsort(kind="stable") == [3, 0, 2, 1]).all()


def test_few_examples_and_absent_classes():
    train = from_sequences(["ACGTACGT", "AAAAAAAA"], np.array([0, 2]))
    test = from_sequences(["ACGTACGA", "AAAAAAAC", "A"], np.array([0, 2, 1]))
    for baseline in BASELINES.values():
        logits = baseline(train, test, "multiclass", 3).logits
        assert logits.shape == (3, 3)
        assert (logits.argmax(axis=1)[:2] == [0, 2]).all()
        assert (logits[:, 1] < logits[:, [0, 2]].min(axis=1)).all()


def test_multilabel_and_regression():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(300, 8)) / 8**0.5
    signal = features @ generator.normal(size=(8, 3)) * 8
    labels = (signal + generator.normal(size=(300, 3)) > 0).astype(np.int64)
    labels[:, 2] = 0  # a label that no example has
    target = Target(labels[:200], "multilabel", 3)
    strength = best_strength(features[:200], target, make_folds(target, 0)).strength
    logits = predict(fit(features[:200], target, strength), features[200:])
    assert score(logits[:, :2], labels[200:, :2], "multilabel").auroc > 0.85
    assert (logits[:, 2] < -10).all()
    values = (signal[:, 0] + 0.1 * generator.normal(size=300)).astype(np.float32)
    target = Target(values[:200], "regression", 1)
    found = probe(features[:200], target, features[200:], values[200:])
    assert found["logistic"].pearson > 0.95
    assert found["neighbours"].pearson > 0.5


def test_folds_are_balanced():
    labels = np.array([0] * 20 + [1] * 20 + [2] * 20)
    target = Target(labels, "multiclass", 3)
    fold = make_folds(target, 0)
    assert all(np.bincount(labels[fold == n]).tolist() == [4, 4, 4] for n in range(5))
    assert (make_folds(target, 0) == fold).all()
    assert (make_folds(target, 1) != fold).any()


def test_a_choice_among_many_examples_looks_at_some(monkeypatch):
    labels = np.arange(600) % 2
    target = Target(labels, "binary", 2)
    assert sample_for_selection(target, 0).tolist() == list(range(600))
    monkeypatch.setattr("cmgems.evaluation.linear.models.MAX_SELECTION_EXAMPLES", 200)
    part = sample_for_selection(target, 0)
    assert len(set(part.tolist())) == 200
    assert 0.35 < labels[part].mean() < 0.65
    assert (sample_for_selection(target, 0) == part).all()
    assert (sample_for_selection(target, 1) != part).any()
    train, test = planted(600, 1, place=20), planted(200, 2, place=20)
    found = one_hot_baseline(train, test, "binary", 2)
    assert score(found.logits, test.labels, "binary").accuracy > 0.95


def test_many_examples_choose_k_as_well(monkeypatch):
    monkeypatch.setattr("cmgems.evaluation.linear.baselines.MANY_EXAMPLES", 100)
    train, test = planted(300, 1), planted(300, 2)
    found = kmer_baseline(train, test, "binary", 2)
    assert found.chosen["k"] >= 4
    assert score(found.logits, test.labels, "binary").accuracy > 0.8


def test_the_penalty_follows_the_signal():
    """Pure noise is penalised as strongly as can be, separable classes hardly."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(200, 50)) / 50**0.5
    noise = Target(generator.integers(0, 2, 200), "binary", 2)
    assert best_strength(features, noise, make_folds(noise, 0)).strength <= 0.1
    clear = Target((features[:, 0] > 0).astype(np.int64), "binary", 2)
    assert best_strength(features, clear, make_folds(clear, 0)).strength >= 10


def test_the_probe_sees_features_of_any_scale():
    generator = np.random.default_rng(0)
    labels = np.arange(400) % 3
    features = generator.normal(size=(400, 16)) + 2.5 * np.eye(16)[labels]
    features = features * np.logspace(-3, 3, 16) + 100
    target = Target(labels[:200], "multiclass", 3)
    found = probe(features[:200], target, features[200:], labels[200:])
    assert set(found) == {"logistic", "neighbours"}
    assert found["logistic"].accuracy > 0.85
    assert found["neighbours"].accuracy > 0.8
    assert found["neighbours"].auroc > 0.9
    again = probe(features[:200], target, features[200:], labels[200:])
    for name, scores in found.items():  # nan among them is equal here
        np.testing.assert_equal(asdict(again[name]), asdict(scores))


def test_states_beside_counts_are_one_regression_with_two_penalties(few_k):
    """The same minimum as of the loss with a penalty of its own for each block, written out."""
    train, test = planted(80, 1, word="AC"), planted(60, 2, word="AC")
    generator = np.random.default_rng(3)
    labels = train.labels
    states = [
        generator.normal(size=(len(data), 4)) + 1.5 * data.labels[:, None] for data in (train, test)
    ]
    target = Target(labels, "binary", 2)
    found = states_beside_counts((states[0], states[1]), train, test, target)
    k, strengths = (
        int(found.chosen["k"]),
        (found.chosen["strength"], found.chosen["counts_strength"]),
    )
    blocks = []
    for data, own in zip((train, test), standardize(*states), strict=True):
        counts = kmer_counts(data, k).toarray()
        blocks.append((own, counts / np.linalg.norm(counts, axis=1, keepdims=True)))
    penalty = np.concatenate(
        [np.full(block.shape[1], 1 / c) for block, c in zip(blocks[0], strengths, strict=True)]
    )
    (x, y), unseen = (np.hstack(blocks[0]), labels), np.hstack(blocks[1])

    def penalized(weights):
        logits = x @ weights[1:] + weights[0]
        losses = np.logaddexp(0, np.where(y == 1, -logits, logits))
        return losses.sum() + 0.5 * (penalty * weights[1:] ** 2).sum()

    best = minimize(penalized, np.zeros(x.shape[1] + 1), tol=1e-9).x
    wanted = unseen @ best[1:] + best[0]
    assert np.allclose(found.logits[:, 1] - found.logits[:, 0], wanted, rtol=0.01, atol=0.02)


def test_together_they_know_what_each_block_knows(monkeypatch):
    """One of two independent signs stands in the states, the other in the composition."""
    monkeypatch.setattr("cmgems.evaluation.linear.baselines.K_CHOICES", (1,))
    generator = np.random.default_rng(0)
    parts = []
    for count in (150, 400):
        in_states, in_bases = generator.integers(0, 2, (2, count))
        rare = np.where(in_bases[:, None] == 1, "G", "A")
        bases = np.where(generator.random((count, 60)) < 0.3, rare, "T")
        labels = in_states + in_bases  # 0, 1 or 2: each block alone mistakes half of them
        states = generator.normal(size=(count, 8)) + 4.0 * in_states[:, None]
        data = from_sequences(["".join(row) for row in bases], labels.astype(np.int64))
        parts.append((states, data))
    (train_states, train), (test_states, test) = parts
    target = Target(train.labels, "multiclass", 3)
    both = states_beside_counts((train_states, test_states), train, test, target)
    alone = probe(train_states, target, test_states, test.labels)["logistic"].accuracy
    counts = kmer_baseline(train, test, "multiclass", 3)
    assert score(both.logits, test.labels, "multiclass").accuracy > 0.95
    assert alone < 0.8
    assert score(counts.logits, test.labels, "multiclass").accuracy < 0.8
    again = states_beside_counts((train_states, test_states), train, test, target)
    assert (again.logits == both.logits).all()
    assert both.chosen["strength"] in {f * s for f in FACTORS for s in STRENGTHS}
