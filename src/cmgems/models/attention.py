"""Attention on packed sequences: every token attends to the tokens of its own sequence.

The tokens of all sequences of a batch lie one behind the other; `Layout` says where each belongs.
Queries are wanted at all tokens or, in the last layer, at the predicted ones (`at_M`) alone.

On a CPU, where lengths are at hand, runs of sequences of equal length are one call each. On other
devices nothing may depend on the host knowing them: there the sequences' ends are a tensor, and
the kernel for packed sequences takes it as it is; where it does not serve (float32, float64,
dropout, other devices) the sequences are spread over a grid [B, S].

Shapes: B sequences, T packed tokens, M predicted positions, N = T or M queries, D width, H heads,
E = D / H, S the longest sequence.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Layout(NamedTuple):
    """Where each packed token belongs."""

    # tokens of each of the B sequences, [CLS] and [SEP] included; on the host, and empty where
    # `offsets` are given
    lengths: tuple[int, ...]
    positions_T: Tensor  # int64, place of each token in its sequence
    offsets: Tensor | None = None  # int64 [B + 1], first token of each sequence, then the end T
    longest: int = 0  # S or more; read with `offsets` alone

    @classmethod
    def of(cls, lengths: tuple[int, ...], device: torch.device | str = "cpu") -> "Layout":
        positions_T = torch.cat([torch.arange(n, device=device) for n in lengths])
        if positions_T.device.type == "cpu":
            return cls(lengths, positions_T)
        offsets = torch.tensor((0, *lengths)).cumsum(0).to(device, non_blocking=True)
        return cls((), positions_T, offsets, max(lengths))


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
    if layout.offsets is None:
        return _by_runs(query_ND, kv, layout, at_M, heads, dropout)
    q, k, v = (x.unflatten(-1, (heads, -1)) for x in (query_ND, *kv.chunk(2, -1)))  # [N, H, E]
    keys = queries = layout.offsets
    if at_M is not None:
        queries = torch.searchsorted(at_M, keys)
    if dropout == 0.0 and _has_kernel(q):
        from torch.nn.attention.varlen import varlen_attn

        longest = layout.longest
        mixed = varlen_attn(q, k, v, queries.int(), keys.int(), longest, longest)
    else:
        mixed = _on_grid(q, k, v, queries, keys, layout.longest, dropout)
    return mixed.flatten(1)


def _has_kernel(q: Tensor) -> bool:
    """Whether the kernel for packed sequences takes these queries [N, H, E]."""
    half = q.dtype in (torch.bfloat16, torch.float16)
    return q.device.type == "cuda" and half and q.shape[-1] % 8 == 0 and _is_ampere_or_later()


@torch.compiler.assume_constant_result
def _is_ampere_or_later() -> bool:
    return torch.cuda.get_device_capability() >= (8, 0)


def _on_grid(
    q: Tensor, k: Tensor, v: Tensor, queries: Tensor, keys: Tensor, longest: int, dropout: float
) -> Tensor:
    """[N, H, E]: attention with every sequence in a row of its own, as long as the longest.

    `queries` and `keys` [B + 1] are where each sequence begins among queries and tokens.
    """
    place_S = torch.arange(longest, device=q.device)
    inside_BS = place_S < keys.diff()[:, None]
    # A row without tokens would be all -inf; it has no queries, so what it attends to is no matter.
    inside_BS = inside_BS | (place_S == 0)
    k, v = (_rows(x, keys, place_S).transpose(1, 2) for x in (k, v))
    q_grid = _rows(q, queries, place_S).transpose(1, 2)  # [B, H, S, E]
    mask = inside_BS[:, None, None, :]
    mixed = F.scaled_dot_product_attention(q_grid, k, v, attn_mask=mask, dropout_p=dropout)
    number_N = torch.arange(len(q), device=q.device)
    row_N = torch.searchsorted(queries, number_N, right=True) - 1
    at_N = row_N * longest + number_N - queries[row_N]
    return mixed.transpose(1, 2).flatten(0, 1).index_select(0, at_N)


def _rows(x: Tensor, starts: Tensor, place_S: Tensor) -> Tensor:
    """[N, H, E] -> [B, S, H, E]; behind a sequence's end stands whatever comes next."""
    at_BS = (starts[:-1, None] + place_S).clamp(max=len(x) - 1)
    return x.index_select(0, at_BS.flatten()).unflatten(0, at_BS.shape)


def _by_runs(
    query_ND: Tensor, kv: Tensor, layout: Layout, at_M: Tensor | None, heads: int, dropout: float
) -> Tensor:
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
