"""How much of a task a linear model and nearest neighbours learn from frozen features.

Pure functions on arrays: features float [N, D] of training and test examples, labels as in
`LabelledSequences`. Nothing here knows how the features were made.
"""

import numpy as np
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import StandardScaler

from cmgems.evaluation.linear.models import Target, choose_strength, fit, predict
from cmgems.evaluation.metrics import Scores, score

NEIGHBOURS = 10


def probe(
    train: np.ndarray, target: Target, test: np.ndarray, test_labels: np.ndarray, seed: int = 0
) -> dict[str, Scores]:
    """Scores of logistic regression and of k-nearest neighbours on the test examples.

    Features are scaled to mean 0 and deviation 1 on the training examples. The penalty of the
    regression is chosen by cross-validation on the training examples, then it is fitted to all
    of them.

    Parameters
    ----------
    train, test : float [N, D], [M, D]
    target : labels [N], kind and classes of the task
    test_labels : [M]
    seed : of the folds

    Returns
    -------
    dict with the keys `logistic` (ridge for regression tasks) and `neighbours`
    """
    train, test = standardize(train, test)
    logits = {
        "logistic": logistic(train, target, test, seed),
        "neighbours": neighbours(train, target, test),
    }
    return {name: score(own, test_labels, target.kind) for name, own in logits.items()}


def standardize(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both, with mean 0 and deviation 1 of each training feature, and rows of length about 1."""
    scaler = StandardScaler().fit(np.asarray(train, np.float64))
    # Rows of length 1, so that the strengths of the penalty mean what they mean in the baselines.
    unit = np.sqrt(train.shape[1])
    return (
        scaler.transform(np.asarray(train, np.float64)) / unit,
        scaler.transform(np.asarray(test, np.float64)) / unit,
    )


def logistic(train: np.ndarray, target: Target, test: np.ndarray, seed: int) -> np.ndarray:
    """Logits of the test examples."""
    strength = choose_strength(train, target, seed)
    return predict(fit(train, target, strength), test)


def neighbours(train: np.ndarray, target: Target, test: np.ndarray) -> np.ndarray:
    """Log-fractions of the labels among the nearest training examples (cosine), one added to each.

    The number of neighbours is 10, or a third of the training examples where that is less.
    """
    count = max(1, min(NEIGHBOURS, len(train) // 3))
    options = {"n_neighbors": count, "metric": "cosine", "algorithm": "brute"}
    if target.kind == "regression":
        return KNeighborsRegressor(**options).fit(train, target.labels).predict(test)
    if target.kind == "multilabel":
        model = KNeighborsRegressor(**options).fit(train, target.labels)
        votes = model.predict(test) * count
        return np.log(votes + 1) - np.log(count - votes + 1)
    model = KNeighborsClassifier(**options).fit(train, target.labels)
    votes = np.zeros((len(test), target.classes))
    votes[:, model.classes_] = model.predict_proba(test) * count
    return np.log((votes + 1) / (count + target.classes))
