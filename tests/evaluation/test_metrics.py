"""Scores equal scikit-learn's, over the whole split; a model that gives one answer is collapsed."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics

from cmgems.evaluation.metrics import Scores, score
from cmgems.tasks.task import metric_names


def noisy_logits(labels, classes, seed=0, strength=0.7):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(len(labels), classes)) + strength * np.eye(classes)[labels]


def softmax(logits):
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def calibration_error(shares, labels, bins=15):
    """Straight from Guo et al. (2017): weighted mean of |accuracy - confidence| over bins."""
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == labels
    error = 0.0
    for low in np.arange(bins) / bins:
        inside = (confidence > low) & (confidence <= low + 1 / bins)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


@pytest.mark.parametrize("classes", [2, 3, 9])
def test_classes_equal_scikit_learn(classes):
    labels = np.random.default_rng(1).choice(
        classes, 997, p=np.arange(1, classes + 1) / sum(range(classes + 1))
    )
    logits = noisy_logits(labels, classes)
    shares, predicted = softmax(logits), logits.argmax(axis=1)
    one_hot = np.eye(classes)[labels]
    ranked = (labels, shares[:, 1]) if classes == 2 else (one_hot, shares)
    expected = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "auroc": metrics.roc_auc_score(*ranked),
        "auprc": metrics.average_precision_score(*ranked),
        "f1": metrics.f1_score(labels, predicted, average="macro"),
        "mcc": metrics.matthews_corrcoef(labels, predicted),
        "ece": calibration_error(shares, labels),
    }
    kind = "binary" if classes == 2 else "multiclass"
    found = score(torch.from_numpy(logits).float(), torch.from_numpy(labels), kind)
    assert found.metrics() == pytest.approx(expected, abs=2e-6)
    assert (found.count, found.collapsed) == (997, False)
    assert set(found.metrics()) == set(metric_names(kind))


def test_the_score_of_a_split_is_not_the_mean_over_its_batches():
    labels = np.random.default_rng(2).integers(0, 2, 320)
    logits = noisy_logits(labels, 2)
    whole = score(logits, labels, "binary")
    parts = [score(logits[i : i + 32], labels[i : i + 32], "binary") for i in range(0, 320, 32)]
    assert np.mean([part.accuracy for part in parts]) == pytest.approx(whole.accuracy)
    assert abs(np.mean([part.mcc for part in parts]) - whole.mcc) > 1e-3
    order = np.random.default_rng(3).permutation(320)
    assert score(logits[order], labels[order], "binary").metrics() == pytest.approx(whole.metrics())


def test_ties_and_absent_classes():
    labels = np.array([0, 0, 1, 1, 2, 2])
    logits = noisy_logits(labels, 4, strength=2.0)  # no example of the last class
    found = score(logits, labels, "multiclass")
    shares = softmax(logits)
    areas = [metrics.roc_auc_score(labels == c, shares[:, c]) for c in range(3)]
    assert found.auroc == pytest.approx(np.mean(areas))
    tied = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    truth = np.array([0, 1, 0, 1])
    assert score(tied, truth, "binary").auroc == pytest.approx(
        metrics.roc_auc_score(truth, tied[:, 1])
    )
    alone = score(np.zeros((3, 2)), np.zeros(3, int), "binary")
    assert math.isnan(alone.auroc)
    assert alone.accuracy == 1.0


def test_a_collapsed_model_is_told_from_a_bad_one():
    labels = np.array([0, 1] * 50)
    always = np.tile([0.1, 0.3], (100, 1)) + np.random.default_rng(0).normal(0, 0.01, (100, 2))
    found = score(always, labels, "binary")
    assert found.collapsed
    assert (found.accuracy, found.mcc) == (0.5, 0.0)
    assert not score(noisy_logits(labels, 2, strength=0.0), labels, "binary").collapsed
    assert score(np.ones(20), np.arange(20.0), "regression").collapsed
    assert score(
        np.full((20, 3), -1.0), np.eye(3, dtype=int)[np.arange(20) % 3], "multilabel"
    ).collapsed


def test_multilabel_equals_scikit_learn():
    generator = np.random.default_rng(4)
    labels = (generator.random((500, 5)) < 0.3).astype(np.int64)
    logits = generator.normal(size=(500, 5)) + labels
    shares, predicted = 1 / (1 + np.exp(-logits)), (logits > 0).astype(int)
    expected = {
        "auroc": metrics.roc_auc_score(labels, shares, average="macro"),
        "auprc": metrics.average_precision_score(labels, shares, average="macro"),
        "f1": metrics.f1_score(labels, predicted, average="macro"),
        "accuracy": (labels == predicted).mean(),
    }
    found = score(logits, labels, "multilabel")
    assert found.metrics() == pytest.approx(expected, abs=2e-6)


def test_regression_equals_scipy_and_scikit_learn():
    generator = np.random.default_rng(5)
    labels = generator.normal(size=300)
    values = labels + generator.normal(size=300)
    values[:50] = values[50:100]  # ties
    expected = {
        "pearson": stats.pearsonr(values, labels).statistic,
        "spearman": stats.spearmanr(values, labels).statistic,
        "r2": metrics.r2_score(labels, values),
        "mse": metrics.mean_squared_error(labels, values),
    }
    found = score(values, labels, "regression")
    assert found.metrics() == pytest.approx(expected, abs=1e-5)
    assert Scores(3).metrics() == {}
