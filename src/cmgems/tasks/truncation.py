"""Sequences that are longer than a model's positions: cut, or covered by windows.

`middle` cuts a sequence to its middle: the sites of interest are there. `windows` covers it with
windows that overlap; `mean_over_windows` gives the mean of what a model says of them.
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


def make_rows(data: Sequences, most: int, over: str = "middle") -> Rows:
    """Each sequence as rows of at most `most` bases.

    Parameters
    ----------
    data : sequences
    most : bases, see `Tokenization.max_bases`
    over : `middle` cuts a longer sequence to its middle; `windows` covers it with as few windows
        of `most` bases as overlap by a quarter or more, spread evenly from end to end
    """
    lengths = data.lengths
    if over == "middle":
        kept = np.minimum(lengths, most)
        return Rows(data.offsets[:-1] + (lengths - kept) // 2, kept, np.arange(len(data)))
    step = max(1, most * 3 // 4)
    counts = np.where(lengths <= most, 1, 1 + -(-(lengths - most) // step))
    example = np.repeat(np.arange(len(data)), counts)
    number = np.arange(len(example)) - compute_offsets(counts)[example]
    room = np.maximum(lengths - most, 0)[example]
    start = data.offsets[example] + room * number // np.maximum(counts[example] - 1, 1)
    return Rows(start, np.minimum(lengths, most)[example], example)


def mean_over_windows(logits: Tensor, index: Tensor, count: int) -> Tensor:
    """Logits [count, ...] of examples, each the mean over its rows.

    Parameters
    ----------
    logits : [R, ...] of rows, in any order
    index : int64 [R], the example of each row
    count : number of examples; each must have a row
    """
    total = logits.new_zeros((count, *logits.shape[1:])).index_add_(0, index, logits)
    rows = torch.bincount(index, minlength=count).to(logits.dtype)
    return total / rows.reshape(-1, *(1,) * (logits.ndim - 1))
