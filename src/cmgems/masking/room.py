"""Batches of fixed shape, for devices that must not wait for the host and for torch.compile.

How many tokens and masked tokens a batch has differs from batch to batch. With a `Room` it is
filled up: with [PAD] tokens, which are sequences of their own, to one of a few numbers of tokens,
and with positions that are predicted but do not count to a number of masked tokens that the batch
stays below. The number of tokens is known to the loader, the number of masked ones to the device.

Shapes: B sequences, K k-mer tokens of the longest, T packed tokens, M predicted ones.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cmgems.masking.corrupt import IGNORED, Packed, Shares, corrupted
from cmgems.models.attention import Layout
from cmgems.tokenization.kmers import CLS, PAD, SEP

LEVELS = 16  # numbers of tokens that there can be
ALIGNED = 64  # masked tokens come in multiples of it
DEVIATIONS = 5.0  # of the number of masked tokens that there is room for


class Room(NamedTuple):
    """The fixed shape of a packed batch."""

    tokens: int  # T
    masked: int  # M
    longest: int  # tokens that a sequence can have, [CLS] and [SEP] included
    fillers: int  # sequences of [PAD] behind the real ones

    @classmethod
    def of(cls, lengths: tuple[int, ...], longest: int, share: float, width: float) -> "Room":
        """Room for sequences of these lengths, [CLS] and [SEP] included.

        Parameters
        ----------
        lengths : tuple of int
        longest : int
            Tokens that a sequence can have.
        share : float
            The largest expected share of masked tokens.
        width : float
            Tokens that are masked together. There is room for 5 deviations more than expected, with
            centres as rare events (a Poisson distribution) that mask so many tokens each; of a
            batch with more masked tokens than that the first are predicted.
        """
        most = len(lengths) * longest
        level = -(-most // LEVELS)
        tokens = min(-(-sum(lengths) // level) * level, most)
        expected = share * tokens
        masked = math.ceil(expected + DEVIATIONS * math.sqrt(width * expected))
        masked = min(-(-masked // ALIGNED) * ALIGNED, tokens)
        return cls(tokens, masked, longest, -(-level // longest))


class RoomPolicy(NamedTuple):
    """How much room the batches of a run get: the same whatever is in force."""

    k: int
    longest: int  # tokens that a window can have, [CLS] and [SEP] included
    share: float  # the largest expected share of masked tokens
    width: float  # tokens that are masked together, at most

    def room(self, bases: tuple[int, ...]) -> Room:
        """For windows of so many bases."""
        lengths = tuple(count - self.k + 3 for count in bases)
        return Room.of(lengths, self.longest, self.share, self.width)


def pack_into(
    room: Room,
    ids_BK: Tensor,
    mask_BK: Tensor,
    lengths_B: Tensor,
    keys_B2: Tensor,
    k: int,
    shares: Shares,
) -> tuple[Packed, Layout]:
    """`cmgems.masking.corrupt.pack` with every shape fixed; `lengths_B` (int64) are k-mer tokens.

    Behind the sequences follow [PAD] tokens. Positions that do not count have the target IGNORED;
    they are taken from the first unmasked tokens, so that no sequence has more than its length.
    """
    ends_B = (lengths_B + 2).cumsum(0)
    number_T = torch.arange(room.tokens, device=ids_BK.device)
    row_T = torch.searchsorted(ends_B, number_T, right=True).clamp(max=len(lengths_B) - 1)
    real_T = number_T < ends_B[-1]
    place_T = torch.where(real_T, number_T - (ends_B - lengths_B - 2)[row_T], 0)
    wide_ids = F.pad(ids_BK, (1, 1), value=CLS)
    wide_ids = wide_ids.scatter(1, lengths_B[:, None] + 1, SEP)
    ids_T = torch.where(real_T, wide_ids[row_T, place_T], PAD)
    mask_T = F.pad(mask_BK, (1, 1))[row_T, place_T] & real_T
    changed_T = corrupted(ids_T, keys_B2[row_T], place_T.int(), k, shares)
    at_M = _places(mask_T, room.masked)
    targets_M = torch.where(mask_T[at_M], ids_T[at_M], IGNORED).long()
    packed = Packed(torch.where(mask_T, changed_T, ids_T), place_T, at_M, targets_M)
    return packed, Layout((), place_T, _offsets(ends_B, room), room.longest)


def _places(mask_T: Tensor, slots: int) -> Tensor:
    """int64 [slots], ascending: the masked places, and the first others where there are fewer."""
    masked_T, other_T = mask_T.cumsum(0), (~mask_T).cumsum(0)
    spare = slots - masked_T[-1]
    chosen_T = torch.where(mask_T, masked_T <= slots, other_T <= spare)
    slot_T = torch.where(chosen_T, chosen_T.cumsum(0) - 1, slots)  # one slot more takes the rest
    number_T = torch.arange(len(mask_T), device=mask_T.device)
    places = number_T.new_zeros(slots + 1)
    return places.scatter(0, slot_T, number_T)[:slots]


def _offsets(ends_B: Tensor, room: Room) -> Tensor:
    """Where each sequence begins, those of [PAD] included, and the end."""
    number = torch.arange(1, room.fillers + 1, device=ends_B.device)
    fillers = (ends_B[-1] + number * room.longest).clamp(max=room.tokens)
    return F.pad(torch.cat([ends_B, fillers]), (1, 0))
