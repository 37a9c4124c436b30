"""Where the tokens of a batch belong: sequences concatenated, or padded to rows of one length.

    tokens   A A A A A B B B C C C C C       seqlens (5, 3, 5), cu_seqlens [0, 5, 8, 13]
    padded   A A A A A
             B B B . .
             C C C C C

On a CPU the host knows the lengths. On other devices nothing may depend on that, so the ends of
the sequences are a tensor there.

Shapes: B sequences, T packed tokens, S the longest sequence, G models.
"""

from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor


class SequenceLayout(NamedTuple):
    """Where each packed token belongs."""

    position_ids: Tensor  # int64 [T], of each token in its sequence
    # tokens of each of the B sequences, [CLS] and [SEP] included; on the host, and empty where
    # `cu_seqlens` is given
    seqlens: tuple[int, ...] = ()
    cu_seqlens: Tensor | None = None  # int64 [B + 1], first token of each sequence, then the end T
    max_seqlen: int = 0  # S or more; read with `cu_seqlens` alone

    @classmethod
    def of(cls, seqlens: tuple[int, ...], device: torch.device | str = "cpu") -> "SequenceLayout":
        position_ids = torch.cat([torch.arange(n, device=device) for n in seqlens])
        if position_ids.device.type == "cpu":
            return cls(position_ids, seqlens)
        cu_seqlens = torch.tensor((0, *seqlens)).cumsum(0).to(device, non_blocking=True)
        return cls(position_ids, (), cu_seqlens, max(seqlens))


class PaddedLayout(NamedTuple):
    """B rows of S tokens, padded on the right, one after the other: T = B S."""

    position_ids: Tensor  # int64 [T] or [G, T]; 0 at padding
    num_rows: int  # B
    row_length: int  # S
    attention_mask: Tensor | None = None  # bool [..., B, S], False at padding; None: no padding

    @classmethod
    def of(cls, attention_mask: Tensor, padded: bool = True) -> "PaddedLayout":
        """Of a mask [..., B, S]; `padded`: it may be False somewhere."""
        rows, length = attention_mask.shape[-2:]
        position_ids = torch.arange(length, device=attention_mask.device).repeat(rows)
        if not padded:
            return cls(position_ids, rows, length)
        position_ids = position_ids * attention_mask.flatten(-2)
        return cls(position_ids, rows, length, attention_mask)

    def first_tokens(self, count: int) -> Tensor:
        """int64 [B count]: the first so many of each row, among its tokens."""
        first_B = torch.arange(self.num_rows, device=self.position_ids.device) * self.row_length
        column = torch.arange(count, device=self.position_ids.device)
        return (first_B[:, None] + column).flatten()


Layout = SequenceLayout | PaddedLayout


def equal_lengths(seqlens: tuple[int, ...]) -> list[tuple[int, int]]:
    """(length, how many) of consecutive sequences of equal length."""
    return [(length, len(list(group))) for length, group in groupby(seqlens)]


def split(x: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
    """x [N, ...] in parts of so many rows. With `split`, and not slices, the gradients of all parts
    are put together in one pass; of a single part not even in that."""
    return x.split(sizes) if len(sizes) > 1 else (x,)


def unpack_to_padded(x: Tensor, starts: Tensor, column_S: Tensor) -> Tensor:
    """[N, ...] -> [B, S, ...]; behind a sequence's end stands whatever comes next.

    `starts` [B + 1] is where each sequence begins among the N, and the end.
    """
    at_BS = (starts[:-1, None] + column_S).clamp(max=len(x) - 1)
    return x.index_select(0, at_BS.flatten()).unflatten(0, at_BS.shape)


def padded_slots(starts: Tensor, count: int, row_length: int) -> Tensor:
    """int64 [N]: where each of N = `count` packed entries stands in B rows of `row_length`."""
    number_N = torch.arange(count, device=starts.device)
    row_N = torch.searchsorted(starts, number_N, right=True) - 1
    return row_N * row_length + number_N - starts[row_N]
