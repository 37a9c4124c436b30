"""What a masking strategy sees, and the windows it masks.

Shapes: B sequences, T k-mer tokens of the longest of them. The tokens are k-mers and [UNK] alone,
without [CLS] and [SEP]; shorter sequences are padded on the right. V = 4**k k-mers.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from cmgems.kmers import FIRST_KMER

# Offsets of the window around a masked centre, first and last included (DNABERT's MASK_LIST).
PLAIN_WINDOW = {3: (-1, 1), 4: (-1, 2), 5: (-2, 2), 6: (-2, 3)}


def wide_window(k: int) -> tuple[int, int]:
    """2k - 1 tokens: all that overlap the middle one, so that its k bases are truly hidden."""
    return 1 - k, k - 1


class Tokens(NamedTuple):
    """A padded batch of token sequences and the draws for it.

    A strategy reads ids through `rank_BT` and knows nothing of the genome; `uniform_BT` belongs to
    the sequence, not to the batch, so its mask does not depend on what else is in the batch.
    """

    k: int
    ids_BT: Tensor  # int32 token ids
    maskable_BT: Tensor  # bool, False for [UNK] and padding
    uniform_BT: Tensor  # float32 in [0, 1)
    rate_B1: Tensor  # float32, probability that a maskable token is drawn as a centre
    rank_V: Tensor  # int32, rank of each k-mer, 1 = first to mask

    @property
    def centres_BT(self) -> Tensor:
        return (self.uniform_BT < self.rate_B1) & self.maskable_BT

    @property
    def order_BT(self) -> Tensor:
        """int32 keys that ascend from the best-ranked token of a sequence, all different.

        Equal k-mers are told apart by their place, leftmost first; tokens that cannot be masked
        come last.
        """
        ids_BT = (self.ids_BT - FIRST_KMER).clamp_(min=0)
        rank_BT = torch.where(self.maskable_BT, self.rank_V[ids_BT], len(self.rank_V) + 1)
        return rank_BT * self.ids_BT.shape[1] + self.places_T

    @property
    def places_T(self) -> Tensor:
        return torch.arange(self.ids_BT.shape[1], dtype=torch.int32, device=self.ids_BT.device)


def cover(centres_BT: Tensor, window: tuple[int, int]) -> Tensor:
    """Mark every token that lies in the window of a centre; windows end at the sequence's ends."""
    first, last = window
    covered_BT = centres_BT.clone()
    for offset in range(1, last + 1):
        covered_BT[:, offset:] |= centres_BT[:, :-offset]
    for offset in range(1, -first + 1):
        covered_BT[:, :-offset] |= centres_BT[:, offset:]
    return covered_BT


def first_of_row(order_BT: Tensor, count_B1: Tensor) -> Tensor:
    """Mark the `count` smallest keys of each row."""
    sorted_BT = order_BT.sort(dim=1).values
    limit_B1 = sorted_BT.gather(1, (count_B1 - 1).clamp(min=0))
    return (order_BT <= limit_B1) & (count_B1 > 0)
