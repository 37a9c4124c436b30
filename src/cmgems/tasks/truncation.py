"""Sequences that are longer than a model's positions: cut, or covered by windows.

`middle` cuts a sequence to its middle: the sites of interest are there. `windows` covers it with
windows that overlap; `mean_over_windows` gives the mean of what a model predicts for them.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cmgems.tasks.dataset import Sequences, compute_offsets


class Rows(NamedTuple):
    """What a model sees of the examples: windows of their sequences. int64 [R] each."""

    start: np.ndarray  # offset in Sequences.codes
    length: np.ndarray
    example: np.ndarray


def make_rows(data: Sequences, max_bases: int, over: str = "middle") -> Rows:
    """Each sequence as rows of at most `max_bases` bases.

    Parameters
    ----------
    data : sequences
    max_bases : see `Tokenization.max_bases`
    over : `middle` cuts a longer sequence to its middle; `windows` covers it with as few windows
        of `max_bases` bases as overlap by a quarter or more, spread evenly from end to end
    """
    return cut_rows(data.offsets, max_bases, over)


def cut_rows(offsets: np.ndarray, limit: int, over: str) -> Rows:
    """The same of bases or of tokens: `offsets` are where each example begins, and the end."""
    lengths = np.diff(offsets)
    if over == "middle":
        cut = np.minimum(lengths, limit)
        return Rows(offsets[:-1] + (lengths - cut) // 2, cut, np.arange(len(lengths)))
    step = max(1, limit * 3 // 4)
    counts = np.where(lengths <= limit, 1, 1 + -(-(lengths - limit) // step))
    example = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(example)) - compute_offsets(counts)[example]
    excess = np.maximum(lengths - limit, 0)[example]
    start = offsets[example] + excess * number // np.maximum(counts[example] - 1, 1)
    return Rows(start, np.minimum(lengths, limit)[example], example)


def mean_over_windows(logits: Tensor, index: Tensor, count: int) -> Tensor:
    """Logits [count, ...] of examples, each the mean over the rows of an example.

    Parameters
    ----------
    logits : [R, ...] of rows, in any order
    index : int64 [R], the example of each row
    count : number of examples; each must have a row
    """
    total = logits.new_zeros((count, *logits.shape[1:])).index_add_(0, index, logits)
    rows = torch.bincount(index, minlength=count).to(logits.dtype)
    return total / rows.reshape(-1, *(1,) * (logits.ndim - 1))
