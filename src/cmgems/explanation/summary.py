"""What is shown of many explanations: their mean logo, and the first of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmgems.explanation.arrays import read_part, unstack
from cmgems.explanation.explainer import Explainer, Explanation

SHOWN = 20  # sequences with a section of their own


class Summary(NamedTuple):
    """Of all explanations."""

    num_sequences: int
    mean_heights: np.ndarray | None  # float64 [L, 4], of a logo; None where lengths differ
    mean_attention: np.ndarray | None  # [A, H, S, S]; None where lengths differ, or there is none
    first: list[tuple[str, Explanation]]  # names and explanations


def summarize(explainer: Explainer, paths: Sequence[Path]) -> Summary:
    """Read all parts, one at a time."""
    count, lengths, total = 0, set[int](), np.zeros((1, 4))
    attention: np.ndarray | None = None
    first: list[tuple[str, Explanation]] = []
    for path in paths:
        arrays = read_part(path)
        for place, each in zip(arrays["places"].tolist(), unstack(arrays), strict=True):
            count += 1
            lengths.add(len(each.codes))
            if len(lengths) == 1:
                total = total + explainer.heights(each)
                if each.attention is not None:
                    attention = each.attention + (0 if attention is None else attention)
            if len(first) < SHOWN:
                first.append((" ".join(place).strip(), each))
    if len(lengths) > 1:
        return Summary(count, None, None, first)
    return Summary(count, total / count, None if attention is None else attention / count, first)


def middle(rows: np.ndarray, shown: int) -> tuple[int, np.ndarray]:
    """The `shown` rows in the middle, and the number of the first, counted from the middle."""
    length = len(rows)
    start = max((length - shown) // 2, 0)
    return start - length // 2, rows[start : start + shown]
