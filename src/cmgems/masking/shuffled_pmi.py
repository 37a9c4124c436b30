"""Control for the information in PMI."""

import numpy as np
import torch
from torch import Tensor

from cmgems.draws import stream
from cmgems.masking.global_pmi import wide_at_first
from cmgems.masking.operations import order_by
from cmgems.masking.tables import made_once
from cmgems.masking.tokens import Tokens


def shuffled_pmi(tokens: Tokens) -> Tensor:
    """`global_pmi` with the ranks dealt out to the k-mers at random: the same selection, as static
    and as clustered by content, without information. The deal is the same in every run."""
    deal_V = _deal(len(tokens.rank_V), tokens.rank_V.device)
    return wide_at_first(tokens, order_by(tokens.rank_V[deal_V], tokens))


@made_once
def _deal(kmers: int, device: torch.device) -> Tensor:
    generator = np.random.Generator(np.random.Philox(key=stream(0, "shuffled_pmi")))
    return torch.from_numpy(generator.permutation(kmers)).to(device)
