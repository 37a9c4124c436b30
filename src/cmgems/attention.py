"""Attention on packed sequences: every token attends to the tokens of its own sequence.

The tokens of all sequences of a batch lie one behind the other; `Layout` says where each belongs.
Queries are wanted at all tokens or, in the last layer, at the predicted ones (`at_M`) alone.

Shapes: B sequences, T packed tokens, M predicted positions, N = T or M queries, D width, H heads,
E = D / H, S the longest sequence.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Layout(NamedTuple):
    """Where each packed token belongs.

    `lengths` stays on the host, so that splitting the batch needs no device synchronisation.
    """

    lengths: tuple[int, ...]  # tokens of each of the B sequences, [CLS] and [SEP] included
    positions_T: Tensor  # int64, place of each token in its sequence

    @classmethod
    def of(cls, lengths: tuple[int, ...], device: torch.device | str = "cpu") -> "Layout":
        return cls(lengths, torch.cat([torch.arange(n, device=device) for n in lengths]))


def attention(
    query_ND: Tensor, kv: Tensor, layout: Layout, at_M: Tensor | None, heads: int, dropout: float
) -> Tensor:
    """Mix the values of each query's sequence.

    Parameters
    ----------
    query_ND : [T, D] or, with `at_M`, [M, D]
    kv : [T, 2 D], keys and values
    layout : Layout
    at_M : int64 [M], ascending, or None
    heads : int
    dropout : float
        Of the weights.

    Returns
    -------
    [N, D]
    """
    runs = _runs(layout.lengths)
    tokens = [length * count for length, count in runs]
    queries = _queries(layout.lengths, at_M)
    sizes = [sum(queries[first : first + count]) for first, (_, count) in _starts(runs)]
    if not sum(sizes):
        # Nothing is masked: keep keys and values in the graph, DDP waits for their gradients.
        return query_ND + 0.0 * kv.sum()
    out = []
    # `split` and not slices: the gradients of all parts are put together in one pass.
    parts = zip(query_ND.split(sizes), kv.split(tokens), sizes, _starts(runs), strict=True)
    for q_ND, kv_TD, size, (first, (_, count)) in parts:
        if size:
            k, v = (_split_heads(x, count, heads) for x in kv_TD.chunk(2, -1))
            of_each = queries[first : first + count]
            out.append(_run(q_ND, k, v, of_each, dropout))
    return torch.cat(out) if len(out) > 1 else out[0]


def _run(q_ND: Tensor, k: Tensor, v: Tensor, of_each: tuple[int, ...], dropout: float) -> Tensor:
    """Sequences of equal length, with as many queries each as `of_each` says: one call."""
    count, heads = k.shape[:2]
    most = max(of_each)
    ragged = len(set(of_each)) > 1
    if ragged:  # queries of zeros fill up to the most
        starts = torch.arange(0, count * most, most)
        skipped = starts - torch.tensor((0, *of_each[:-1])).cumsum(0)
        rows_N = torch.arange(len(q_ND)) + skipped.repeat_interleave(torch.tensor(of_each))
        rows_N = rows_N.to(q_ND.device)
        q_ND = q_ND.new_zeros(count * most, q_ND.shape[1]).index_copy(0, rows_N, q_ND)
    q = _split_heads(q_ND, count, heads)
    mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)  # [n, H, most, E]
    mixed = mixed.transpose(1, 2).reshape(count * most, -1)
    return mixed[rows_N] if ragged else mixed


def _queries(lengths: tuple[int, ...], at_M: Tensor | None) -> tuple[int, ...]:
    """How many queries each sequence has."""
    if at_M is None:
        return lengths
    ends = torch.tensor(lengths).cumsum(0)
    upto = torch.searchsorted(at_M.cpu(), ends)
    return tuple(upto.diff(prepend=upto.new_zeros(1)).tolist())


def _runs(lengths: tuple[int, ...]) -> list[tuple[int, int]]:
    """(length, how many in a row) of consecutive sequences of equal length."""
    runs: list[tuple[int, int]] = []
    for length in lengths:
        if runs and runs[-1][0] == length:
            runs[-1] = (length, runs[-1][1] + 1)
        else:
            runs.append((length, 1))
    return runs


def _starts(runs: list[tuple[int, int]]) -> list[tuple[int, tuple[int, int]]]:
    """Each run with the number of its first sequence."""
    first, starts = 0, []
    for run in runs:
        starts.append((first, run))
        first += run[1]
    return starts


def _split_heads(x: Tensor, count: int, heads: int) -> Tensor:
    """[n * L, D] -> [n, H, L, E]"""
    return x.view(count, x.shape[0] // count, heads, -1).transpose(1, 2)
