"""What a mask hides, and what can be read off the tokens that it leaves.

Overlapping k-mers repeat each base up to k times. A base is hidden only if every k-mer over it is
masked; m contiguous masked k-mers hide m - k + 1 bases, and a masked k-mer without a hidden base is
copied from its neighbours. [UNK] and padding show nothing.

Shapes: B sequences, K k-mer tokens, L = K + k - 1 bases.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

HUMAN_BITS = 1.9  # of a base of human DNA given the bases before it, about


class Leak(NamedTuple):
    """How much of a mask is copying."""

    hidden_BL: Tensor  # bool, bases that no unmasked k-mer shows
    hidden_BK: Tensor  # int64, hidden bases in each masked k-mer, 0 where it is not masked
    readable_BK: Tensor  # bool, masked k-mers that can be read off their unmasked neighbours
    masked: int
    readable: int
    hidden_bases: int
    hidden_per_masked: float  # mean of hidden_BK over the masked k-mers

    def perplexity_floor(self, bits: float = HUMAN_BITS) -> float:
        """Perplexity of a masked token for a model that copies whatever can be copied and pays
        `bits` for each hidden base. Below it lies what a model knows of DNA beyond `bits`; with
        `bits` 2 it knows nothing of DNA and still has this perplexity."""
        return math.exp(self.hidden_per_masked * bits * math.log(2))


def leak(mask_BK: Tensor, k: int, maskable_BK: Tensor | None = None) -> Leak:
    """Which masked tokens can be read off the unmasked ones.

    Parameters
    ----------
    mask_BK : bool [B, K]
    k : int
    maskable_BK : bool [B, K]
        False for [UNK] and padding; all are k-mers if it is not given.
    """
    hidden_BL = hidden_bases(mask_BK, k, maskable_BK)
    in_token_BK = hidden_BL.unfold(1, k, 1).sum(2) if mask_BK.shape[1] else mask_BK.long()
    hidden_BK = in_token_BK * mask_BK
    readable_BK = mask_BK & (hidden_BK == 0)
    masked = int(mask_BK.sum())
    return Leak(
        hidden_BL,
        hidden_BK,
        readable_BK,
        masked=masked,
        readable=int(readable_BK.sum()),
        hidden_bases=int(hidden_BL.sum()),
        hidden_per_masked=int(hidden_BK.sum()) / max(masked, 1),
    )


def hidden_bases(mask_BK: Tensor, k: int, maskable_BK: Tensor | None = None) -> Tensor:
    """bool [B, K + k - 1]: bases that lie in a masked k-mer and in no unmasked one."""
    if maskable_BK is None:
        maskable_BK = torch.ones_like(mask_BK)
    return _in_tokens(mask_BK, k) & ~_in_tokens(maskable_BK & ~mask_BK, k)


def _in_tokens(tokens_BK: Tensor, k: int) -> Tensor:
    """bool [B, L]: bases of the marked tokens."""
    rows, tokens = tokens_BK.shape
    bases_BL = tokens_BK.new_zeros(rows, tokens + k - 1)
    for offset in range(k):
        bases_BL[:, offset : offset + tokens] |= tokens_BK
    return bases_BL


def in_short_runs(hidden_BL: Tensor, longest: int) -> Tensor:
    """bool [B, L]: hidden bases in runs of at most `longest`."""
    begins_BL = hidden_BL.clone()
    begins_BL[:, 1:] &= ~hidden_BL[:, :-1]
    # Number the runs of the batch; number 0 takes what is not hidden.
    run_BL = begins_BL.flatten().long().cumsum(0).view_as(hidden_BL) * hidden_BL
    lengths = torch.bincount(run_BL.flatten(), minlength=1)
    return hidden_BL & (lengths <= longest)[run_BL]


def base_probabilities(logits_MV: Tensor, mask_BK: Tensor, wanted_BL: Tensor, k: int) -> Tensor:
    """float32 [H, 4]: the model's distribution of each wanted base, all of them hidden.

    The k-mer distribution of each masked token over a base is summed over its other bases; the
    tokens over a base are then averaged, which is a distribution again.
    """
    kmers_MV = F.softmax(logits_MV[:, -(4**k) :].float(), dim=1)  # no special token
    marginal_Mk4 = torch.stack(
        [kmers_MV.view(-1, 4**j, 4, 4 ** (k - 1 - j)).sum((1, 3)) for j in range(k)], dim=1
    )
    row_H, place_H = wanted_BL.nonzero(as_tuple=True)
    number_BK = mask_BK.flatten().long().cumsum(0).view_as(mask_BK) - 1
    offset_k = torch.arange(k, device=place_H.device)
    token_Hk = place_H[:, None] - offset_k
    inside_Hk = (token_Hk >= 0) & (token_Hk < mask_BK.shape[1])
    token_Hk = token_Hk.clamp(0, mask_BK.shape[1] - 1)
    inside_Hk &= mask_BK[row_H[:, None], token_Hk]
    guess_Hk4 = marginal_Mk4[number_BK[row_H[:, None], token_Hk].clamp(min=0), offset_k]
    share_Hk1 = inside_Hk[:, :, None] / inside_Hk.sum(1)[:, None, None]
    return (guess_Hk4 * share_Hk1).sum(1)
