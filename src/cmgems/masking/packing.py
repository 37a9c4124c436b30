"""From masks to what the encoder reads: packing, and corruption of the masked tokens.

Of the masked tokens 80 % become [MASK], 10 % a random token (never a special one), and 10 % stay.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cmgems.masking import kernels
from cmgems.masking.types import CORRUPTION
from cmgems.models.layouts import SequenceLayout
from cmgems.tokenization.base import CLS, FIRST_TOKEN, MASK, PAD, SEP
from cmgems.utils.kernels import as_numpy, as_uint32, use_cpu_kernels
from cmgems.utils.rng import random_bits


class CorruptionProbabilities(NamedTuple):
    """What becomes of masked tokens; the rest stays."""

    masked: float = 0.8
    random: float = 0.1

    @property
    def limits(self) -> tuple[int, int]:
        """A draw of 24 bits below the first becomes [MASK], one below the second a random token."""
        return math.ceil(self.masked * 2**24), math.ceil((self.masked + self.random) * 2**24)


IGNORED = -100  # the target of a position that does not count: torch's own default

BERT = CorruptionProbabilities()
# Nothing that is masked shows: for the metrics of hidden bases.
ALL_MASKED = CorruptionProbabilities(masked=1.0, random=0.0)


class Packed(NamedTuple):
    """Sequences concatenated, corrupted, and what was there."""

    ids_T: Tensor  # int32, what the encoder sees
    positions_T: Tensor  # int64, position of each token in its sequence
    at_M: Tensor  # int64, packed positions of the masked tokens, ascending
    true_M: Tensor  # int64, their true ids; IGNORED where a position does not count


def pack(
    ids_BK: Tensor,
    mask_BK: Tensor,
    lengths: tuple[int, ...],
    keys_B2: Tensor,
    replacements: int,
    probabilities: CorruptionProbabilities = BERT,
) -> Packed:
    """Drop the padding, put [CLS] in front and [SEP] behind each sequence, corrupt the masked.

    `lengths` are the sequences' tokens, at least 0 each; a random replacement is one of so many
    tokens behind the special ones (`Tokenization.replacements`).
    """
    if use_cpu_kernels(ids_BK):
        return _pack_compiled(ids_BK, mask_BK, lengths, keys_B2, replacements, probabilities)
    ids_T, mask_T, row_T, positions_T = _concatenate(ids_BK, mask_BK, lengths)
    at_M = mask_T.nonzero()[:, 0]
    true_M = ids_T[at_M]
    ids_T[at_M] = corrupted(
        true_M, keys_B2[row_T[at_M]], positions_T[at_M].int(), replacements, probabilities
    )
    return Packed(ids_T, positions_T, at_M, true_M.long())


def _pack_compiled(
    ids_BK: Tensor,
    mask_BK: Tensor,
    lengths: tuple[int, ...],
    keys_B2: Tensor,
    replacements: int,
    probabilities: CorruptionProbabilities,
) -> Packed:
    total, masked = sum(lengths) + 2 * len(lengths), int(np.count_nonzero(as_numpy(mask_BK)))
    packed = Packed(
        torch.empty(total, dtype=torch.int32),
        torch.empty(total, dtype=torch.int64),
        torch.empty(masked, dtype=torch.int64),
        torch.empty(masked, dtype=torch.int64),
    )
    kernels.pack(
        as_numpy(ids_BK),
        as_numpy(mask_BK),
        np.array(lengths),
        as_uint32(keys_B2),
        replacements,
        np.uint32(CORRUPTION),
        np.array(probabilities.limits, np.uint32),
        *(as_numpy(part) for part in packed),
    )
    return packed


def corrupted(
    ids_M: Tensor,
    keys_M2: Tensor,
    positions_M: Tensor,
    replacements: int,
    probabilities: CorruptionProbabilities,
) -> Tensor:
    """int32 [M]: what the encoder sees in place of the masked tokens.

    Parameters
    ----------
    ids_M : int32 [M], the masked tokens' own ids
    keys_M2 : int32 [M, 2], the draw keys of their sequences
    positions_M : int32 [M], their positions in their sequences
    replacements : a random replacement is one of so many tokens behind the special ones
    """
    masked_below, random_below = probabilities.limits
    u_M = random_bits(keys_M2, positions_M, CORRUPTION, bits=24)
    other_M = (
        FIRST_TOKEN + random_bits(keys_M2, positions_M, CORRUPTION + 1, bits=31) % replacements
    )
    replaced_M = torch.where(u_M < random_below, other_M, ids_M)
    return torch.where(u_M < masked_below, MASK, replaced_M)


def _concatenate(
    ids_BK: Tensor, mask_BK: Tensor, lengths: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """ids [T] int32, mask [T] bool, row [T] int64 (its sequence), position [T] int64 (in it)."""
    device = ids_BK.device
    lengths_B = torch.tensor(lengths, device=device)
    wide_ids = F.pad(ids_BK, (1, 1), value=CLS)
    wide_ids.scatter_(1, lengths_B[:, None] + 1, SEP)
    wide_mask = F.pad(mask_BK, (1, 1))
    row_T = torch.arange(len(lengths), device=device).repeat_interleave(
        lengths_B + 2, output_size=sum(lengths) + 2 * len(lengths)
    )
    starts_B = (lengths_B + 2).cumsum(0) - lengths_B - 2
    positions_T = torch.arange(len(row_T), device=device) - starts_B[row_T]
    return wide_ids[row_T, positions_T], wide_mask[row_T, positions_T], row_T, positions_T


NUM_LENGTH_BUCKETS = 16  # numbers of tokens that there can be


MULTIPLE_OF = 64  # masked tokens come in multiples of it


STD_DEVS_OF_HEADROOM = 5.0  # of the number of masked tokens that there is room for


class PackedShape(NamedTuple):
    """The fixed shape of a packed batch."""

    tokens: int  # T
    masked: int  # M
    max_length: int  # tokens that a sequence can have, [CLS] and [SEP] included
    num_padding_sequences: int  # sequences of [PAD] behind the real ones

    @classmethod
    def of(
        cls, lengths: tuple[int, ...], max_length: int, mask_ratio: float, width: float
    ) -> "PackedShape":
        """The shape for sequences of these lengths, [CLS] and [SEP] included.

        Parameters
        ----------
        lengths : tuple of int
        max_length : int
            Tokens that a sequence can have.
        mask_ratio : float
            The largest expected fraction of masked tokens.
        width : float
            Tokens that are masked together. There is room for 5 deviations more than expected, with
            centres as rare events (a Poisson distribution) that mask so many tokens each; of a
            batch with more masked tokens than that the first are predicted.
        """
        max_tokens = len(lengths) * max_length
        bucket = -(-max_tokens // NUM_LENGTH_BUCKETS)
        tokens = min(-(-sum(lengths) // bucket) * bucket, max_tokens)
        expected = mask_ratio * tokens
        masked = math.ceil(expected + STD_DEVS_OF_HEADROOM * math.sqrt(width * expected))
        masked = min(-(-masked // MULTIPLE_OF) * MULTIPLE_OF, tokens)
        return cls(tokens, masked, max_length, -(-bucket // max_length))


class PackedShapePolicy(NamedTuple):
    """The shapes of the batches of a run, the same whichever strategy is current."""

    max_length: int  # tokens that a window can have, [CLS] and [SEP] included
    mask_ratio: float  # the largest expected fraction of masked tokens
    width: float  # tokens that are masked together, at most

    def packed_shape(self, tokens: tuple[int, ...]) -> PackedShape:
        """For windows of so many tokens, without [CLS] and [SEP]."""
        lengths = tuple(length + 2 for length in tokens)
        return PackedShape.of(lengths, self.max_length, self.mask_ratio, self.width)


def pack_into(
    packed_shape: PackedShape,
    ids_BK: Tensor,
    mask_BK: Tensor,
    lengths_B: Tensor,
    keys_B2: Tensor,
    replacements: int,
    probabilities: CorruptionProbabilities,
) -> tuple[Packed, SequenceLayout]:
    """`cmgems.masking.packing.pack` with every shape fixed; `lengths_B` (int64) are
    tokens without [CLS] and [SEP].

    Behind the sequences follow [PAD] tokens. Positions that do not count have the target IGNORED;
    they are taken from the first unmasked tokens, so that no sequence has more than its length.
    """
    ends_B = (lengths_B + 2).cumsum(0)
    number_T = torch.arange(packed_shape.tokens, device=ids_BK.device)
    row_T = torch.searchsorted(ends_B, number_T, right=True).clamp(max=len(lengths_B) - 1)
    real_T = number_T < ends_B[-1]
    positions_T = torch.where(real_T, number_T - (ends_B - lengths_B - 2)[row_T], 0)
    wide_ids = F.pad(ids_BK, (1, 1), value=CLS)
    wide_ids = wide_ids.scatter(1, lengths_B[:, None] + 1, SEP)
    ids_T = torch.where(real_T, wide_ids[row_T, positions_T], PAD)
    mask_T = F.pad(mask_BK, (1, 1))[row_T, positions_T] & real_T
    changed_T = corrupted(ids_T, keys_B2[row_T], positions_T.int(), replacements, probabilities)
    at_M = _masked_positions(mask_T, packed_shape.masked)
    targets_M = torch.where(mask_T[at_M], ids_T[at_M], IGNORED).long()
    packed = Packed(torch.where(mask_T, changed_T, ids_T), positions_T, at_M, targets_M)
    return packed, SequenceLayout(
        positions_T, (), _offsets(ends_B, packed_shape), packed_shape.max_length
    )


def _masked_positions(mask_T: Tensor, slots: int) -> Tensor:
    """int64 [slots], ascending: the masked positions, and the first others if there are fewer."""
    masked_T, other_T = mask_T.cumsum(0), (~mask_T).cumsum(0)
    spare = slots - masked_T[-1]
    chosen_T = torch.where(mask_T, masked_T <= slots, other_T <= spare)
    slot_T = torch.where(chosen_T, chosen_T.cumsum(0) - 1, slots)  # one slot more takes the rest
    number_T = torch.arange(len(mask_T), device=mask_T.device)
    positions = number_T.new_zeros(slots + 1)
    return positions.scatter(0, slot_T, number_T)[:slots]


def _offsets(ends_B: Tensor, packed_shape: PackedShape) -> Tensor:
    """Where each sequence begins, those of [PAD] included, and the end."""
    number = torch.arange(1, packed_shape.num_padding_sequences + 1, device=ends_B.device)
    padding = (ends_B[-1] + number * packed_shape.max_length).clamp(max=packed_shape.tokens)
    return F.pad(torch.cat([ends_B, padding]), (1, 0))
