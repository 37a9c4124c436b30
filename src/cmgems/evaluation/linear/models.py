"""Linear models on features: what the baselines and the probe of frozen features share.

Logistic regression (ridge regression for numbers), its strength chosen on the training examples
alone, by cross-validation. Features are arrays [N, D], dense or in scipy's CSR.
"""

import math
import warnings
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from scipy.special import log_expit, logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from cmgems.utils.rng import generator

Features: TypeAlias = Any  # np.ndarray or sparse.csr_matrix: scipy has no types
# C, the inverse of the penalty, for features of length 1
STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
MANY_EXAMPLES = 1000  # training examples: from here on 3 folds are enough
# training examples that a choice looks at: more hardly change it, and each fit costs
MAX_SELECTION_EXAMPLES = 20_000
CERTAIN = 50.0  # nats: log-odds of a label that all training examples have


class Target(NamedTuple):
    """What is to be predicted: labels as in `LabelledSequences`, kind of task, classes."""

    labels: np.ndarray
    kind: str
    classes: int

    def select(self, chosen: np.ndarray) -> "Target":
        """The target of some examples."""
        return self._replace(labels=self.labels[chosen])


class LinearModel(NamedTuple):
    """A fitted model of one output, or one per label (multilabel)."""

    kind: str
    classes: int
    models: tuple[Any, ...]


def fit(features: Features, target: Target, strength: float) -> LinearModel:
    """Fit on all examples: features [N, D], targets of N examples; strength is C."""
    kind, labels = target.kind, target.labels
    if kind == "regression":
        return LinearModel(kind, 1, (Ridge(alpha=1 / strength).fit(features, labels),))
    columns = labels.T if kind == "multilabel" else [labels]
    return LinearModel(
        kind, target.classes, tuple(_fit_one(features, y, strength) for y in columns)
    )


def _fit_one(features: Features, labels: np.ndarray, strength: float) -> Any:
    if labels.min() == labels.max():
        return int(labels[0])  # all examples have the label, or none has it
    model = LogisticRegression(C=strength, max_iter=1000)
    with warnings.catch_warnings():
        # nearly separable at a large C: further steps move the weights, not the decisions
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, labels)


def predict(model: LinearModel, features: Features) -> np.ndarray:
    """Logits, as `evaluation.metrics.score` takes them: [N, C], or [N] for a regression."""
    if model.kind == "regression":
        return model.models[0].predict(features)
    if model.kind == "multilabel":
        columns = [_log_odds(fitted, features) for fitted in model.models]
        return np.stack(columns, axis=1)
    (fitted,) = model.models
    # A class without a training example gets a probability of (nearly) 0.
    logits = np.full((features.shape[0], model.classes), -CERTAIN)
    if isinstance(fitted, int):
        logits[:, fitted] = 0.0
        return logits
    scores = fitted.decision_function(features)
    if scores.ndim == 1:  # two classes: the log-odds of the second one
        scores = np.stack([np.zeros_like(scores), scores], axis=1)
    # nothing else about a class counts than its distance from the best one
    logits[:, fitted.classes_] = scores - scores.max(axis=1, keepdims=True)
    return logits


def _log_odds(model: Any, features: Features) -> np.ndarray:
    if isinstance(model, int):
        return np.full(features.shape[0], CERTAIN if model else -CERTAIN)
    return model.decision_function(features)


def loss(logits: np.ndarray, target: Target) -> float:
    """What cross-validation compares: mean negative log-likelihood, or mean squared error."""
    labels = target.labels
    if target.kind == "regression":
        return float(np.mean((logits - labels) ** 2))
    if target.kind == "multilabel":
        return float(-np.mean(log_expit(np.where(labels == 1, logits, -logits))))
    chosen = logits[np.arange(len(labels)), labels]
    return float(np.mean(logsumexp(logits, axis=1) - chosen))


def make_folds(target: Target, seed: int) -> np.ndarray:
    """int64 [N]: the fold of each example, each class spread evenly over the folds.

    Five folds, three where there are so many examples that time counts.
    """
    labels = target.labels
    folds = 3 if len(labels) >= MANY_EXAMPLES else 5
    rng = generator(seed, "cross-validation")
    order = rng.permutation(len(labels))
    if target.kind in ("binary", "multiclass"):
        order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), np.int64)
    fold[order] = np.arange(len(labels)) % folds
    return fold


def validated_loss(features: Features, target: Target, strength: float, fold: np.ndarray) -> float:
    """Mean loss on each fold of the model that was fitted to the others."""
    losses = []
    for number in range(fold.max() + 1):
        held_out = fold == number
        model = fit(features[~held_out], target.select(~held_out), strength)
        losses.append(loss(predict(model, features[held_out]), target.select(held_out)))
    return float(np.mean(losses))


def sample_for_selection(target: Target, seed: int) -> np.ndarray:
    """int64: the training examples by which something is chosen, at most 20,000.

    Of more they are a sample; then the choice leans to what fewer examples allow (a stronger
    penalty).
    """
    count = len(target.labels)
    if count <= MAX_SELECTION_EXAMPLES:
        return np.arange(count)
    rng = generator(seed, "examples to choose on")
    return np.sort(rng.permutation(count)[:MAX_SELECTION_EXAMPLES])


class Choice(NamedTuple):
    """A strength and its validated loss."""

    strength: float
    loss: float


def choose_strength(
    features: Features, target: Target, seed: int, strengths: tuple[float, ...] = STRENGTHS
) -> float:
    """The strength to fit with, chosen by cross-validation on (some of) the examples."""
    part = sample_for_selection(target, seed)
    target = target.select(part)
    return best_strength(features[part], target, make_folds(target, seed), strengths).strength


def best_strength(
    features: Features,
    target: Target,
    fold: np.ndarray,
    strengths: tuple[float, ...] = STRENGTHS,
) -> Choice:
    """The strength with the least validated loss; the stronger penalty of equals.

    Strengths are tried from the strongest penalty on, until the loss has gone up twice.
    """
    best, worse = Choice(strengths[0], math.inf), 0
    for strength in strengths:
        mean_loss = validated_loss(features, target, strength, fold)
        if mean_loss < best.loss:
            best, worse = Choice(strength, mean_loss), 0
        else:
            worse += 1
            if worse == 2:
                break
    return best
