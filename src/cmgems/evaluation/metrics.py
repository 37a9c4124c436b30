"""Scores of a whole split: torchmetrics' functions, once, over all examples at once.

Contract
--------
logits : float [N, C] (binary and multiclass, C classes), [N, C] (multilabel), [N] (regression)
labels : as in `LabelledSequences`

A mean over batches would be another number for everything but accuracy; nothing here takes batches.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional import (
    accuracy,
    auroc,
    average_precision,
    calibration_error,
    f1_score,
    matthews_corrcoef,
    mean_squared_error,
    pearson_corrcoef,
    r2_score,
    spearman_corrcoef,
)

BINS = 15  # of the calibration error (Guo et al., ICML 2017)


@dataclass(frozen=True)
class Scores:
    """Metrics of one model on one split; nan where a metric does not belong to the kind of task.

    auroc and auprc are means over the classes, each against the rest; for binary tasks they are
    those of class 1. A class of which there are no examples, or nothing else, has none. f1 is the
    mean over the classes for binary tasks too, as in GUE.
    """

    count: int  # examples
    accuracy: float = math.nan
    auroc: float = math.nan
    auprc: float = math.nan  # average precision
    f1: float = math.nan
    mcc: float = math.nan
    ece: float = math.nan  # expected calibration error, 15 bins, l1
    pearson: float = math.nan
    spearman: float = math.nan
    r2: float = math.nan
    mse: float = math.nan
    # The model gave one answer to everything (the same class, or the same value): whatever the
    # metrics are, it has learned nothing that can be scored.
    collapsed: bool = False

    def metrics(self) -> dict[str, float]:
        """The metrics that belong to the task, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        del values["count"], values["collapsed"]
        return {name: value for name, value in values.items() if not math.isnan(value)}


def score(logits: Tensor | np.ndarray, labels: Tensor | np.ndarray, kind: str) -> Scores:
    """All metrics of a split.

    Parameters
    ----------
    logits, labels : see the top of this module
    kind : binary, multiclass, multilabel or regression
    """
    logits = torch.as_tensor(logits).detach().cpu().double()
    labels = torch.as_tensor(labels).detach().cpu()
    if kind == "regression":
        return _score_regression(logits, labels.double())
    if kind == "multilabel":
        return _score_multilabel(logits, labels.long())
    return _score_classes(logits, labels.long())


def _score_classes(logits: Tensor, labels: Tensor) -> Scores:
    classes = logits.shape[1]
    probabilities, predicted = logits.softmax(1), logits.argmax(1)
    of_classes: dict[str, Any] = {"task": "multiclass", "num_classes": classes}
    truth = labels[:, None] == torch.arange(classes)
    columns = [1] if classes == 2 else range(classes)
    area, precision = _ranking_metrics(probabilities, truth, columns)
    return Scores(
        count=len(labels),
        accuracy=float(accuracy(predicted, labels, average="micro", **of_classes)),
        auroc=area,
        auprc=precision,
        f1=float(f1_score(predicted, labels, average="macro", **of_classes)),
        mcc=float(matthews_corrcoef(predicted, labels, **of_classes)),
        ece=float(calibration_error(probabilities, labels, n_bins=BINS, norm="l1", **of_classes)),
        collapsed=bool((predicted == predicted[0]).all()),
    )


def _ranking_metrics(
    probabilities: Tensor, truth: Tensor, columns: Iterable[int]
) -> tuple[float, float]:
    """Area under the ROC curve and average precision, means over the columns that have both."""
    areas, precisions = [], []
    binary: dict[str, Any] = {"task": "binary"}
    for column in columns:
        positive, ranked = truth[:, column].long(), probabilities[:, column]
        if 0 < int(positive.sum()) < len(positive):
            areas.append(_number(auroc(ranked, positive, **binary)))
            precisions.append(_number(average_precision(ranked, positive, **binary)))
    count = len(areas) or math.nan
    return sum(areas) / count, sum(precisions) / count


def _number(metric: Tensor | None) -> float:
    """torchmetrics annotates None too, which it returns for no input of ours."""
    assert metric is not None
    return float(metric)


def _score_multilabel(logits: Tensor, labels: Tensor) -> Scores:
    probabilities = logits.sigmoid()
    of_labels: dict[str, Any] = {
        "task": "multilabel",
        "num_labels": logits.shape[1],
        "average": "macro",
    }
    area, precision = _ranking_metrics(probabilities, labels, range(logits.shape[1]))
    return Scores(
        count=len(labels),
        accuracy=float(accuracy(probabilities, labels, **of_labels)),
        auroc=area,
        auprc=precision,
        f1=float(f1_score(probabilities, labels, **of_labels)),
        collapsed=bool(((probabilities > 0.5) == (probabilities[:1] > 0.5)).all()),
    )


def _score_regression(values: Tensor, labels: Tensor) -> Scores:
    constant = bool((values == values[0]).all())
    return Scores(
        count=len(labels),
        # a constant has no correlation with anything
        pearson=0.0 if constant else float(pearson_corrcoef(values, labels)),
        spearman=0.0 if constant else float(spearman_corrcoef(values, labels)),
        r2=float(r2_score(values, labels)),
        mse=float(mean_squared_error(values, labels)),
        collapsed=constant,
    )
