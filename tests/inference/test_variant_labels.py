"""Metrics of labelled variants, against their definitions."""

import numpy as np
import pytest

from cmgems.inference.variant_labels import describe_metrics, label_metrics


def slow_auroc(scores, labels):
    """The share of pairs of a positive and a negative in the right order; equal ones count half."""
    pairs = [(p, n) for p in scores[labels] for n in scores[~labels]]
    return np.mean([(p > n) + (p == n) / 2 for p, n in pairs])


def slow_auprc(scores, labels):
    """The mean over the positives of the precision among all that score at least as high."""
    return np.mean([labels[scores >= score].mean() for score in scores[labels]])


def slow_weighted(scores, labels, chromosomes):
    """The AUPRC of each chromosome, weighted with its number of variants."""
    parts = [np.array(chromosomes) == name for name in set(chromosomes)]
    return sum(slow_auprc(scores[p], labels[p]) * p.sum() for p in parts) / len(scores)


@pytest.fixture
def labelled():
    generator = np.random.default_rng(0)
    labels = generator.random(300) < 0.3
    scores = (labels + generator.normal(0, 1, 300)).round(1)  # with ties
    chromosomes = generator.choice(["1", "2", "X"], 300, p=[0.6, 0.3, 0.1]).tolist()
    return scores, labels, chromosomes


def test_metrics_equal_the_slow_ones(labelled):
    scores, labels, chromosomes = labelled
    found = label_metrics(scores, labels, chromosomes)
    assert found.auroc == pytest.approx(slow_auroc(scores, labels))
    assert found.auprc == pytest.approx(slow_auprc(scores, labels))
    wanted = slow_weighted(scores, labels, chromosomes)
    assert found.auprc_by_chromosome == pytest.approx(wanted)
    assert found.chromosomes == 3


def test_the_interval_is_as_wide_as_new_samples_differ(labelled):
    """The bootstrap's standard error is about the spread of the metric over samples drawn anew."""
    scores, labels, chromosomes = labelled
    generator = np.random.default_rng(1)
    values = []
    for _ in range(60):
        drawn = labels + generator.normal(0, 1, 300)
        values.append(slow_weighted(drawn, labels, chromosomes))
    found = label_metrics(scores, labels, chromosomes)
    assert 0.6 < found.standard_error / np.std(values) < 1.6
    low, high = found.interval
    assert low < found.auprc_by_chromosome < high
    assert high - low == pytest.approx(2 * 1.96 * found.standard_error)


def test_a_chromosome_with_one_label_has_none():
    scores, labels = np.array([3.0, 1.0, 2.0, 9.0]), np.array([True, False, False, True])
    found = label_metrics(scores, labels, ["1", "1", "1", "2"])
    assert (found.auprc_by_chromosome, found.chromosomes) == (1.0, 1)
    assert np.isnan(label_metrics(scores[2:], labels[2:], ["1", "2"]).auprc_by_chromosome)


def test_both_ways_to_read_the_scores_are_described():
    scores = np.array([-3.0, 0.1, -0.2, 2.0])
    text = describe_metrics(scores, np.array([True, False, False, True]), ["1"] * 4)
    head, _, low, large = text.splitlines()
    assert head.startswith("4 scored variants with a label, 2 of them 1, on 1 chromosomes")
    assert low.split()[:5] == ["low", "scores", "0.500", "0.750", "0.750"]
    assert large.split()[:5] == ["large", "changes", "1.000", "1.000", "1.000"]
