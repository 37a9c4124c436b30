"""What a mask hides, and what can be read off the tokens that it leaves visible.

A masked token of which no base is hidden is copied from its neighbors, not predicted. Where tokens
do not overlap every masked token is hidden whole. [UNK], N and padding show nothing.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from cmgems.tokenization.base import Tokenization

HUMAN_BITS = 1.9  # per base of human DNA given the bases before it, about


class MaskExposure(NamedTuple):
    """How much of a mask is copying."""

    hidden_BL: Tensor  # bool, bases that no visible token shows
    hidden_BK: Tensor  # int64, hidden bases in each masked token, 0 where it is not masked
    copyable_BK: Tensor  # bool, masked tokens that can be read off their visible neighbors
    masked: int
    copyable: int
    hidden_bases: int
    hidden_per_masked: float  # mean of hidden_BK over the masked tokens

    def perplexity_floor(self, bits: float = HUMAN_BITS) -> float:
        """Perplexity of a masked token for a model that copies whatever can be copied and pays
        `bits` per hidden base. What a model knows of DNA beyond `bits` brings it below; with
        `bits` 2 it knows nothing of DNA and still has this perplexity."""
        return math.exp(self.hidden_per_masked * bits * math.log(2))


def mask_exposure(
    tokenization: Tokenization,
    mask_BK: Tensor,
    maskable_BK: Tensor | None = None,
    ids_BK: Tensor | None = None,
    width: int | None = None,
) -> MaskExposure:
    """Which masked tokens can be read off the visible ones.

    Parameters
    ----------
    tokenization : Tokenization
    mask_BK : bool [B, K]
    maskable_BK : bool [B, K]
        False for what shows nothing; if it is not given, all tokens do.
    ids_BK, width : see `Tokenization.hidden_bases`
    """
    hidden_BL = tokenization.hidden_bases(mask_BK, maskable_BK, ids_BK, width)
    hidden_BK = tokenization.count_in_tokens(hidden_BL, ids_BK) * mask_BK
    copyable_BK = mask_BK & (hidden_BK == 0)
    masked = int(mask_BK.sum())
    return MaskExposure(
        hidden_BL,
        hidden_BK,
        copyable_BK,
        masked=masked,
        copyable=int(copyable_BK.sum()),
        hidden_bases=int(hidden_BL.sum()),
        hidden_per_masked=int(hidden_BK.sum()) / max(masked, 1),
    )


def runs_up_to(hidden_BL: Tensor, max_run: int) -> Tensor:
    """bool [B, L]: hidden bases in runs of at most `max_run`."""
    begins_BL = hidden_BL.clone()
    begins_BL[:, 1:] &= ~hidden_BL[:, :-1]
    # Number the runs of the batch; number 0 takes what is not hidden.
    run_BL = begins_BL.flatten().long().cumsum(0).view_as(hidden_BL) * hidden_BL
    lengths = torch.bincount(run_BL.flatten(), minlength=1)
    return hidden_BL & (lengths <= max_run)[run_BL]
