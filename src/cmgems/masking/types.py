"""What a masking strategy sees.

Sequences that are shorter than the longest of a batch are padded on the right.
"""

from collections.abc import Callable
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


class RankTables(NamedTuple):
    """The ranks of the k-mers by each measure of difficulty: int32 [V], 1 = first to mask.

    A measure that no strategy of a run reads is not computed: its ranks are then those of PMI. So
    are, with byte pairs, those of the measures that know k-mers alone.
    """

    pmi_V: Tensor  # by PMI, the highest first
    loss_V: Tensor  # by the model's own running loss, the highest first
    markov_V: Tensor  # by bits per base of a Markov model, the most first
    reducible_V: Tensor  # by the model's running bits per hidden base less those, the most first

    @classmethod
    def before_training(cls, pmi_V: Tensor, markov_V: Tensor | None = None) -> "RankTables":
        """Those of an untrained model. What it can learn at first is what counting finds easy."""
        if markov_V is None:
            return cls(pmi_V, pmi_V, pmi_V, pmi_V)
        return cls(pmi_V, pmi_V, markov_V, reversed_ranks(markov_V))


def reversed_ranks(rank_V: Tensor) -> Tensor:
    """int32 [V]: the ranks from the other end."""
    return len(rank_V) + 1 - rank_V


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
    ranks: RankTables
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


class Tuned:
    """A strategy that reads params: a table is made of them first, and the masks with its help.

    The numbers themselves would be constants of the graph that torch.compile makes of the strategy,
    and each level of a ramp one more graph; the table is an input of it.

    Parameters
    ----------
    reads : names of the params
    table : what the strategy reads, of these params in their order and a device
    mask : bool [B, K], of tokens and the table
    """

    def __init__(
        self,
        reads: tuple[str, ...],
        table: Callable[..., Tensor],
        mask: Callable[[StrategyInput, Tensor], Tensor],
    ) -> None:
        self.reads, self.mask, self._table = reads, mask, table
        self.__doc__ = mask.__doc__

    def table(self, params: StrategyParams, device: torch.device) -> Tensor:
        """On the device; the same tensor for the same params."""
        return self._table(*(getattr(params, name) for name in self.reads), device)

    def __call__(self, tokens: StrategyInput) -> Tensor:
        return self.mask(tokens, self.table(tokens.params, tokens.ids_BK.device))
