"""Control for the information in PMI."""

import torch
from torch import Tensor

from cmgems.masking.global_pmi import wide_at_first
from cmgems.masking.operations import order_by
from cmgems.masking.tables import made_once
from cmgems.masking.tokens import Tokens
from cmgems.utils.rng import generator


def shuffled_pmi(tokens: Tokens) -> Tensor:
    """`global_pmi` with the ranks dealt out to the k-mers at random: the same selection, as static
    and as clustered by content, without information. The deal is the same in every run."""
    deal_V = _deal(len(tokens.rank_V), tokens.rank_V.device)
    return wide_at_first(tokens, order_by(tokens.rank_V[deal_V], tokens))


@made_once
def _deal(kmers: int, device: torch.device) -> Tensor:
    rng = generator(0, "shuffled_pmi")
    return torch.from_numpy(rng.permutation(kmers)).to(device)
