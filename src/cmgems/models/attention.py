"""Attention within sequences: every token attends to the tokens of its own sequence.

The tokens of all sequences of a batch are concatenated; a layout says where each belongs. Queries
are wanted at all tokens or, in the last layer, at some of them (`at_M`) alone.

    layout            where              how
    SequenceLayout    CPU                one call per group of sequences of equal length
    SequenceLayout    other devices      the kernel for packed sequences, or spread over a grid
    PaddedLayout      padded batches     the grid as it is

The kernel takes the ends of the sequences as they are, but neither float32, dropout nor ALiBi, and
local attention of all tokens alone: it takes a few queries for the last tokens of their sequence.

Shapes: B sequences, T packed tokens, M positions with a query, N = T or M queries, D width,
H heads, E = D / H, S the longest sequence, Q queries of a sequence, G models.
"""

import inspect
from typing import Any

import torch
from torch import Tensor

from cmgems.models.dropout import Dropout
from cmgems.models.layouts import (
    Layout,
    PaddedLayout,
    SequenceLayout,
    equal_lengths,
    padded_slots,
    split,
    unpack_to_padded,
)
from cmgems.models.scores import Scores

EVERYWHERE = Scores()  # every token of a sequence, whatever its distance


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    at_M: Tensor | None,
    heads: int,
    dropout: Dropout,
    scores: Scores = EVERYWHERE,
) -> Tensor:
    """Mix the values of each query's sequence.

    Parameters
    ----------
    query : [T, D] or, with `at_M`, [M, D]
    key, value : [T, D]
    layout : Layout
        With a `PaddedLayout` all may have a model axis in front.
    at_M : int64 [M], ascending, or None
        With a `PaddedLayout` the first few of each row.
    heads : int
    dropout : Dropout
        Of the weights.
    scores : Scores
        What the distance of two tokens means for their score.

    Returns
    -------
    Like `query`.
    """
    if isinstance(layout, PaddedLayout):
        return _attention_of_rows(query, key, value, layout, heads, dropout, scores)
    if layout.cu_seqlens is None:
        return _attention_by_equal_length(query, key, value, layout, at_M, heads, dropout, scores)
    q, k, v = (x.unflatten(-1, (heads, -1)) for x in (query, key, value))  # [N, H, E]
    keys = queries = layout.cu_seqlens
    if at_M is not None:
        queries = torch.searchsorted(at_M, keys)
    if dropout.rate == 0.0 and _has_kernel(q) and _kernel_takes(scores, at_M):
        return _attention_by_kernel(q, k, v, queries, keys, layout.max_seqlen, scores.reach)
    position_N = None if at_M is None else layout.position_ids[at_M]
    return _attention_padded(
        q, k, v, queries, keys, layout.max_seqlen, dropout, scores, position_N
    ).flatten(1)


def _attention_by_kernel(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    queries: Tensor,
    keys: Tensor,
    longest: int,
    reach: int | None,
) -> Tensor:
    """[N, D] of queries, keys and values [N or T, H, E]; `queries` and `keys` as below."""
    from torch.nn.attention.varlen import varlen_attn

    local: dict[str, Any] = {} if reach is None else {"window_size": (reach, reach)}
    mixed = varlen_attn(q, k, v, queries.int(), keys.int(), longest, longest, **local)
    assert isinstance(mixed, Tensor)  # and not with the softmax's denominators
    return mixed.flatten(1)


@torch.compiler.assume_constant_result
def _kernel_has_windows() -> bool:
    from torch.nn.attention.varlen import varlen_attn

    return "window_size" in inspect.signature(varlen_attn).parameters  # from torch 2.12 on


def _kernel_takes(scores: Scores, at_M: Tensor | None) -> bool:
    if scores.slopes_H is not None:
        return False
    return scores.reach is None or (at_M is None and _kernel_has_windows())


def _has_kernel(q: Tensor) -> bool:
    """Whether the kernel for packed sequences takes these queries [N, H, E]."""
    half = q.dtype in (torch.bfloat16, torch.float16)
    return q.device.type == "cuda" and half and q.shape[-1] % 8 == 0 and _is_ampere_or_later()


@torch.compiler.assume_constant_result
def _is_ampere_or_later() -> bool:
    return torch.cuda.get_device_capability() >= (8, 0)


def _attention_of_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: PaddedLayout,
    heads: int,
    dropout: Dropout,
    scores: Scores,
) -> Tensor:
    """Of a padded batch: the same number of queries per row, its first tokens."""
    k, v = (_split_heads(x, layout.row_length, heads) for x in (key, value))
    per_row = query.shape[-2] // layout.num_rows
    q = _split_heads(query, per_row, heads)  # [G B, H, Q, E]
    mask = layout.attention_mask
    if mask is not None:
        models = len(k) // layout.num_rows
        mask = mask.expand(models, -1, -1).reshape(len(k), 1, 1, -1)
    if per_row == layout.row_length:
        mixed = scores.attend(q, k, v, mask, dropout)
    else:
        position_1Q = torch.arange(per_row, device=query.device)[None]
        mask = scores.mask(mask, position_1Q, layout.row_length, q.dtype)
        mixed = dropout.attend(q, k, v, mask)
    return mixed.transpose(1, 2).reshape(query.shape)


def _attention_padded(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    queries: Tensor,
    keys: Tensor,
    longest: int,
    dropout: Dropout,
    scores: Scores,
    position_N: Tensor | None,
) -> Tensor:
    """[N, H, E]: attention with every sequence in a row of its own, as long as the longest.

    `queries` and `keys` [B + 1] are where each sequence begins among queries and tokens. None for
    the queries' positions: all tokens have one.
    """
    column_S = torch.arange(longest, device=q.device)
    inside_BS = column_S < keys.diff()[:, None]
    # A row without tokens would be all -inf; it has no queries, so what it attends to is no matter.
    inside_BS = inside_BS | (column_S == 0)
    k, v = (unpack_to_padded(x, keys, column_S).transpose(1, 2) for x in (k, v))
    q_grid = unpack_to_padded(q, queries, column_S).transpose(1, 2)  # [B, H, S, E]
    inside = inside_BS[:, None, None, :]
    if position_N is None:
        mixed = scores.attend(q_grid, k, v, inside, dropout)
    else:
        if scores.read_distances:
            position_N = unpack_to_padded(position_N, queries, column_S)
        mixed = dropout.attend(q_grid, k, v, scores.mask(inside, position_N, longest, q.dtype))
    at_N = padded_slots(queries, len(q), longest)
    return mixed.transpose(1, 2).flatten(0, 1).index_select(0, at_N)


def _attention_by_equal_length(
    query_ND: Tensor,
    key_TD: Tensor,
    value_TD: Tensor,
    layout: SequenceLayout,
    at_M: Tensor | None,
    heads: int,
    dropout: Dropout,
    scores: Scores,
) -> Tensor:
    groups = equal_lengths(layout.seqlens)
    tokens = [length * count for length, count in groups]
    queries = _queries_per_sequence(layout.seqlens, at_M)
    sizes = [sum(queries[first : first + count]) for first, (_, count) in _group_starts(groups)]
    if not sum(sizes):
        # Nothing is masked: keep keys and values in the graph, DDP waits for their gradients.
        return query_ND + 0.0 * (key_TD.sum() + value_TD.sum())
    position_N = layout.position_ids if at_M is None else layout.position_ids[at_M]
    out = []
    parts = zip(
        split(query_ND, sizes),
        split(key_TD, tokens),
        split(value_TD, tokens),
        split(position_N, sizes),
        _group_starts(groups),
        strict=True,
    )
    for q_ND, k_TD, v_TD, position_N, (first, (length, count)) in parts:
        if len(q_ND):
            k, v = (_split_heads(x, length, heads) for x in (k_TD, v_TD))
            per_sequence = queries[first : first + count]
            out.append(_one_length(q_ND, k, v, per_sequence, dropout, scores, position_N))
    return torch.cat(out) if len(out) > 1 else out[0]


def _one_length(
    q_ND: Tensor,
    k: Tensor,
    v: Tensor,
    per_sequence: tuple[int, ...],
    dropout: Dropout,
    scores: Scores,
    position_N: Tensor,
) -> Tensor:
    """Sequences of equal length, with so many queries each: one call."""
    count, heads, length = k.shape[:3]
    most = max(per_sequence)
    ragged = len(set(per_sequence)) > 1
    if ragged:  # queries of zeros fill up to the most
        starts = torch.arange(0, count * most, most)
        skipped = starts - torch.tensor((0, *per_sequence[:-1])).cumsum(0)
        rows_N = torch.arange(len(q_ND)) + skipped.repeat_interleave(torch.tensor(per_sequence))
        rows_N = rows_N.to(q_ND.device)
        q_ND = q_ND.new_zeros(count * most, q_ND.shape[1]).index_copy(0, rows_N, q_ND)
    q = _split_heads(q_ND, most, heads)
    if min(per_sequence) == length:
        mixed = scores.attend(q, k, v, None, dropout)  # [n, H, most, E]
    else:
        if ragged:
            filled = position_N.new_zeros(count * most)
            position_N = filled.index_copy(0, rows_N, position_N)
        mask = scores.mask(None, position_N.view(count, most), length, q_ND.dtype)
        mixed = dropout.attend(q, k, v, mask)
    mixed = mixed.transpose(1, 2).reshape(count * most, -1)
    return mixed[rows_N] if ragged else mixed


def _queries_per_sequence(seqlens: tuple[int, ...], at_M: Tensor | None) -> tuple[int, ...]:
    """How many queries each sequence has."""
    if at_M is None:
        return seqlens
    ends = torch.tensor(seqlens).cumsum(0)
    up_to = torch.searchsorted(at_M.cpu(), ends)
    return tuple(up_to.diff(prepend=up_to.new_zeros(1)).tolist())


def _group_starts(groups: list[tuple[int, int]]) -> list[tuple[int, tuple[int, int]]]:
    """Each group with the number of its first sequence."""
    first, starts = 0, []
    for group in groups:
        starts.append((first, group))
        first += group[1]
    return starts


def _split_heads(x: Tensor, length: int, heads: int) -> Tensor:
    """[..., n length, D] -> [n, H, length, E]"""
    return x.reshape(-1, length, heads, x.shape[-1] // heads).transpose(1, 2)
