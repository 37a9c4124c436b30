"""What a mask selects: statistics for TensorBoard and for `cmgems inspect`."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cmgems.tokenization.base import FIRST_TOKEN, Tokenization
from cmgems.tokenization.hidden import HUMAN_BITS, mask_exposure

DUST_WINDOW = 32  # bases
DUST_LOW = 2.0  # score above which DNA counts as of low complexity (dustmasker's level 20)


class MaskStatistics(NamedTuple):
    """Over all sequences of a batch. `rank` is 0 for the best-ranked k-mer, 1 for the last."""

    masked_fraction: float  # masked of maskable tokens
    hidden_fraction: float  # hidden of all known bases
    copyable_fraction: float  # masked tokens that can be copied from their neighbors
    hidden_per_masked: float  # hidden bases per masked token, mean
    perplexity_floor: float  # of a model that copies what it can, at 1.9 bits per hidden base
    rank_masked: float  # mean rank of masked tokens
    rank_others: float  # of maskable tokens that are not masked
    gc_hidden: float  # fraction of G and C of hidden bases
    gc_others: float
    low_complexity_hidden: float  # fraction of low complexity of hidden bases
    low_complexity_others: float


def mask_statistics(
    codes_BL: Tensor,
    ids_BK: Tensor,
    mask_BK: Tensor,
    rank_V: Tensor,
    tokenization: Tokenization,
) -> MaskStatistics:
    """Statistics of masks on the sequences that they were made for.

    Parameters
    ----------
    codes_BL : uint8, codes above 3 are unknown or padding
    ids_BK : int32
    mask_BK : bool
    rank_V : int32, 1 = first to mask
    tokenization : Tokenization
    """
    maskable_BK = tokenization.is_maskable(ids_BK)
    exposure = mask_exposure(tokenization, mask_BK, maskable_BK, ids_BK, codes_BL.shape[1])
    known_BL = codes_BL < 4
    hidden_BL, others_BL = exposure.hidden_BL & known_BL, ~exposure.hidden_BL & known_BL
    rank_BK = rank_fractions(ids_BK, rank_V, tokenization)
    ranked_BK = ~rank_BK.isnan()
    gc_BL = (codes_BL >= 2).double()  # A T C G = 0 1 2 3
    low_BL = torch.from_numpy(dust_scores(codes_BL.cpu().numpy()) > DUST_LOW).double()
    low_BL = low_BL.to(codes_BL.device)
    return MaskStatistics(
        masked_fraction=_mean(mask_BK.double(), maskable_BK),
        hidden_fraction=_mean(hidden_BL.double(), known_BL),
        copyable_fraction=exposure.copyable / max(exposure.masked, 1),
        hidden_per_masked=exposure.hidden_per_masked,
        perplexity_floor=exposure.perplexity_floor(HUMAN_BITS),
        rank_masked=_mean(rank_BK, mask_BK & ranked_BK),
        rank_others=_mean(rank_BK, maskable_BK & ~mask_BK & ranked_BK),
        gc_hidden=_mean(gc_BL, hidden_BL),
        gc_others=_mean(gc_BL, others_BL),
        low_complexity_hidden=_mean(low_BL, hidden_BL),
        low_complexity_others=_mean(low_BL, others_BL),
    )


def rank_fractions(ids_BK: Tensor, rank_V: Tensor, tokenization: Tokenization) -> Tensor:
    """float64 [B, K]: rank of each token, 0 for the best-ranked k-mer, 1 for the last; nan where a
    token has no k-mer."""
    index_BK = tokenization.kmer_ids(ids_BK) - FIRST_TOKEN
    rank_BK = (rank_V[index_BK.clamp(min=0)] - 1).double() / max(len(rank_V) - 1, 1)
    return rank_BK.masked_fill(index_BK < 0, float("nan"))


def _mean(values: Tensor, where: Tensor) -> float:
    """nan where nothing is chosen."""
    return float(values[where].mean())


def dust_scores(codes_BL: np.ndarray) -> np.ndarray:
    """float64 [B, L]: how repetitive the DNA around each base is.

    The score of a window of l triplets is sum c (c - 1) / 2 over the counts c of its triplets,
    divided by l - 1 (Morgulis et al., J Comput Biol 2006); a base has that of the window of 32
    bases around it. Random DNA has about 0.25, a homopolymer 15.
    """
    rows, bases = codes_BL.shape
    scores = np.zeros((rows, bases))
    triplets = min(DUST_WINDOW, bases) - 2
    if triplets < 2:
        return scores
    index = codes_BL[:, :-2].astype(np.int64) * 25 + codes_BL[:, 1:-1] * 5 + codes_BL[:, 2:]
    windows = np.lib.stride_tricks.sliding_window_view(index, triplets, axis=1)  # [B, W, l]
    # Each pair of equal triplets counts once.
    equal = np.zeros(windows.shape[:2])
    for apart in range(1, triplets):
        equal += (windows[:, :, apart:] == windows[:, :, :-apart]).sum(2)
    of_window = equal / (triplets - 1)
    first = (np.arange(bases) - DUST_WINDOW // 2).clip(0, of_window.shape[1] - 1)
    return of_window[:, first]
