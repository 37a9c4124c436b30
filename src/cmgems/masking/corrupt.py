"""Corruption of masked tokens: 80 % [MASK], 10 % a random k-mer, 10 % unchanged."""

import torch
from torch import Tensor

from cmgems.draws import integers, uniforms
from cmgems.kmers import FIRST_KMER, MASK

MASKED_SHARE = 0.8
RANDOM_SHARE = 0.1


def corrupt(ids_M: Tensor, keys_M2: Tensor, places_M: Tensor, k: int, purpose: int) -> Tensor:
    """What the encoder sees in place of the masked tokens.

    Parameters
    ----------
    ids_M : int32 [M], the masked tokens' own ids
    keys_M2 : int32 [M, 2], the draw keys of their sequences
    places_M : int32 [M], their places in their sequences
    k : int
    purpose : int
        The draws use this purpose and the next one.

    Returns
    -------
    int32 [M]; a random replacement is always a k-mer, never a special token.
    """
    lot_M = uniforms(keys_M2, places_M, purpose)
    other_M = FIRST_KMER + integers(keys_M2, places_M, purpose + 1, bits=2 * k)
    replaced_M = torch.where(lot_M < MASKED_SHARE + RANDOM_SHARE, other_M, ids_M)
    return torch.where(lot_M < MASKED_SHARE, MASK, replaced_M)
