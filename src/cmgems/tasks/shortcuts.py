"""What a single number gives away of the classes: AUROC of GC content, of length, of one position.

What is chosen (which way a number points, which base at which position) is chosen on the training
examples and scored on the test split. With more than two classes, and with several labels, the mean
over them, each against the rest. Bases are counted from the middle of their sequences.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

from cmgems.genome.alphabet import BASES
from cmgems.tasks.dataset import LabelledSequences

MAX_POSITIONS = 2_000  # around the middle, that are tried
_CHUNK = 4096  # sequences whose bases are counted at a time


@dataclass(frozen=True)
class Shortcuts:
    """AUROC on the test split, 0.5 where there is nothing to see."""

    gc: float
    length: float
    position: float
    where: str  # of the last class: `G at +1`, the base behind the one in the middle


def find_shortcuts(
    train: LabelledSequences, test: LabelledSequences, classes: int
) -> Shortcuts | None:
    """The shortcuts of a task with classes or several labels; None for a regression.

    Parameters
    ----------
    classes : their number, or that of the labels
    """
    if not classes:
        return None
    columns = range(1, 2) if classes == 2 and train.labels.ndim == 1 else range(classes)
    areas: list[tuple[float, float, float]] = []
    where = ""
    for column in columns:
        truth = [_truth(data.labels, column) for data in (train, test)]
        if not all(0 < known.sum() < len(known) for known in truth):
            continue
        lengths = (train.lengths.astype(float), test.lengths.astype(float))
        position, base = _best_position(train, truth[0])
        at = (_has_base(train, position, base), _has_base(test, position, base))
        where = f"{BASES[base]} at {position:+d}"
        gc, length, one = (_area(*pair, *truth) for pair in ((_gc(train), _gc(test)), lengths, at))
        areas.append((gc, length, one))
    if not areas:
        return None
    gc, length, one = np.mean(areas, 0).tolist()
    return Shortcuts(gc, length, one, where)


def _truth(labels: np.ndarray, column: int) -> np.ndarray:
    return labels[:, column] == 1 if labels.ndim > 1 else labels == column


def _area(train: np.ndarray, test: np.ndarray, known: np.ndarray, truth: np.ndarray) -> float:
    """AUROC on test of a number that points as it does in training."""
    sign = 1 if roc_auc_score(known, train) >= 0.5 else -1
    return float(roc_auc_score(truth, sign * test))


def _gc(data: LabelledSequences) -> np.ndarray:
    """float64 [N]: the fraction of G and C among the known bases."""
    ends = data.offsets

    def count(chosen: np.ndarray) -> np.ndarray:
        return np.diff(np.append(0, chosen.cumsum())[ends])

    known = count(data.codes < 4)
    return np.where(known, count((data.codes == 2) | (data.codes == 3)) / np.maximum(known, 1), 0.5)


def _has_base(data: LabelledSequences, position: int, base: int) -> np.ndarray:
    """float64 [N]: 1 where a sequence has a base at a position, counted from its middle."""
    offset = data.lengths // 2 + position
    inside = (offset >= 0) & (offset < data.lengths)
    found = data.codes[
        (data.offsets[:-1] + np.where(inside, offset, 0)).clip(max=len(data.codes) - 1)
    ]
    return (inside & (found == base)).astype(float)


def _best_position(data: LabelledSequences, known: np.ndarray) -> tuple[int, int]:
    """(position, base) whose frequency differs most between the examples of a class and the rest.

    AUROC of one base is (1 + the difference of its frequencies) / 2.
    """
    span = min(int(data.lengths.max()), MAX_POSITIONS)
    counts = np.zeros((2, span, 5))
    for first in range(0, len(data), _CHUNK):
        rows = np.arange(first, min(first + _CHUNK, len(data)))
        offset = data.lengths[rows, None] // 2 - span // 2 + np.arange(span)
        inside = (offset >= 0) & (offset < data.lengths[rows, None])
        place = (data.offsets[rows, None] + np.where(inside, offset, 0)).clip(
            max=len(data.codes) - 1
        )
        codes = np.where(inside, data.codes[place], 4)
        for label in (0, 1):
            part = codes[known[rows] == label]
            for base in range(4):
                counts[label, :, base] += (part == base).sum(0)
    total = np.array([(~known).sum(), known.sum()])[:, None, None]
    difference = np.abs(np.diff(counts[:, :, :4] / total, axis=0)[0])
    at, best = np.unravel_index(int(difference.argmax()), difference.shape)
    return int(at) - span // 2, int(best)
