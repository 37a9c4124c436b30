"""What a masking strategy sees.

Sequences that are shorter than the longest of a batch are padded on the right.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from cmgems.tokenization.base import SpanWindows, Tokenization

# Purposes of draws: each tells apart one use of a token's random bits. Corruption takes two.
CENTERS, CORRUPTION, STRATEGY, MIXING = 0, 1, 3, 4


class StrategyParams(NamedTuple):
    """What a curriculum can move beside the strategy."""

    mask_ratio: float = 0.15  # expected fraction of what the budget counts
    span_width: float = 3.8  # mean number of bases that a span hides (`span`)
    temperature: float = 0.1  # of `soft_pmi`: 0 is global_pmi, infinity random_wide
    budget: str = "tokens"  # `tokens` that are masked, or `hidden_bases`


class StrategyInput(NamedTuple):
    """A padded batch of token sequences and the draws for it.

    What is drawn belongs to the sequence, not to the batch: a mask does not depend on what else is
    in the batch. A strategy draws with the operations of `cmgems.masking.ops` alone, with
    the purpose `STRATEGY`.
    """

    tokenization: Tokenization
    ids_BK: Tensor  # int32 token ids
    maskable_BK: Tensor  # bool, False for [UNK], N and padding
    centers_BK: Tensor  # bool, maskable tokens drawn as centres
    keys_B2: Tensor  # int32, key the sequences' draws
    rank_V: Tensor  # int32, rank of each k-mer by PMI, 1 = first to mask
    loss_rank_V: Tensor  # int32, the same by the model's own running loss
    params: StrategyParams = StrategyParams()
    position_offset: int = 0  # position of the first token, for draws

    @property
    def windows(self) -> SpanWindows:
        """How far to mask around a centre."""
        return self.tokenization.windows

    @property
    def positions_K(self) -> Tensor:
        """int32 [K]: the position of each token, as its draws have it."""
        width, device = self.ids_BK.shape[1], self.ids_BK.device
        return torch.arange(width, dtype=torch.int32, device=device) + self.position_offset
