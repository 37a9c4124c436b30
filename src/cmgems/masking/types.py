"""What a masking strategy sees.

Shapes: B sequences, T tokens of the longest of them, without [CLS] and [SEP]; shorter sequences are
padded on the right. V = 4**k k-mers.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from cmgems.tokenization.base import SpanWindows, Tokenization

# Purposes of draws: each tells apart one use of a token's random bits. Corruption takes two.
CENTRES, CORRUPTION, STRATEGY, MIXING = 0, 1, 3, 4


class StrategyParams(NamedTuple):
    """What a curriculum can move beside the strategy."""

    mask_ratio: float = 0.15  # expected share of masked among maskable tokens
    span_width: float = 3.8  # mean number of bases that a span hides (`span`)
    temperature: float = 0.1  # of `soft_pmi`: 0 is global_pmi, infinity random_wide


class StrategyInput(NamedTuple):
    """A padded batch of token sequences and the draws for it.

    What is drawn belongs to the sequence, not to the batch: a mask does not depend on what else is
    in the batch. A strategy draws with the operations of `cmgems.masking.ops` alone, with
    the purpose `STRATEGY`.
    """

    tokenization: Tokenization
    ids_BT: Tensor  # int32 token ids
    maskable_BT: Tensor  # bool, False for [UNK], N and padding
    centres_BT: Tensor  # bool, maskable tokens drawn as centres
    keys_B2: Tensor  # int32, key the sequences' draws
    rank_V: Tensor  # int32, rank of each k-mer by PMI, 1 = first to mask
    loss_rank_V: Tensor  # int32, the same by the model's own running loss
    params: StrategyParams = StrategyParams()
    first_place: int = 0  # place of the first token, for draws

    @property
    def windows(self) -> SpanWindows:
        """How far to mask around a centre."""
        return self.tokenization.windows

    @property
    def places_T(self) -> Tensor:
        places = torch.arange(self.ids_BT.shape[1], dtype=torch.int32, device=self.ids_BT.device)
        return places + self.first_place
