"""The training loss with masked bases in repeats weighted less.

Half of human DNA is repeats: what is learned there is learned again and again. GPN (Benegas et al.,
PNAS 2023) and Evo 2 (Brixi et al., 2025) weigh them by 0.1. Here a token counts for the mean of its
bases; metrics and the budget of masks stay as they are.
"""

import torch
from torch import Tensor

from cmgems.masking.masker import MaskedBatch
from cmgems.masking.packing import IGNORED
from cmgems.tokenization.base import Tokenization


def repeat_weights(
    tokenization: Tokenization, masked: MaskedBatch, in_repeat_BL: Tensor, weight: float
) -> Tensor:
    """float32 [M]: what each prediction counts for, 0 where a position does not count.

    Parameters
    ----------
    tokenization : Tokenization
    masked : MaskedBatch
    in_repeat_BL : bool [B, L]
    weight : float
        Of a base in a repeat, 0 to 1; others have 1.
    """
    repeats_BK = tokenization.count_in_tokens(in_repeat_BL, masked.ids_BK)
    bases_BK = tokenization.count_in_tokens(torch.ones_like(in_repeat_BL), masked.ids_BK)
    fraction_M = masked.at_masked(repeats_BK / bases_BK.clamp(min=1))
    return (1 - (1 - weight) * fraction_M) * (masked.targets_M != IGNORED)


def weighted_mean(loss_M: Tensor, weight_M: Tensor) -> Tensor:
    """The mean of losses, weighted; 0 if nothing weighs anything."""
    return (loss_M * weight_M).sum() / weight_M.sum().clamp(min=1e-6)
