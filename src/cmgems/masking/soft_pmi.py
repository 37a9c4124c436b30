"""Between random_wide and global_pmi."""

import numpy as np
import torch
from torch import Tensor

from cmgems.masking.global_pmi import wide_at_first
from cmgems.masking.operations import order_by, subtract_noise
from cmgems.masking.tables import made_once
from cmgems.masking.tokens import Tokens

UNIT = 1 << 20  # orders are whole numbers of 1 / UNIT
FARTHEST = 1 << 30
QUANTILES = 1 << 14


def soft_pmi(tokens: Tokens) -> Tensor:
    """As many centres as are drawn, sampled with a probability that grows with their rank.

    With s = 1 for the best-ranked k-mer of the vocabulary, 0 for the last, and linear between them,
    centres are sampled without replacement with weights exp(s / temperature), by adding Gumbel
    noise to s / temperature and taking the largest (Kool et al., ICML 2019). A temperature near 0
    is `global_pmi`, a large one `random_wide`; 0.1 prefers the best to the middle rank e**5 times.
    Unlike a static selection it does not mask the same places of a sequence every time.
    """
    order_V = scaled_order(tokens.rank_V, tokens.settings.temperature)
    order_BT = order_by(order_V, tokens)
    return wide_at_first(tokens, subtract_noise(order_BT, gumbel(order_V.device), tokens))


def scaled_order(rank_V: Tensor, temperature: float) -> Tensor:
    """int32 [V]: (1 - s) / temperature in units of 1 / UNIT."""
    most = UNIT / (temperature * max(len(rank_V) - 1, 1))
    return ((rank_V - 1).double() * most).clamp_(max=FARTHEST).int()


@made_once
def gumbel(device: torch.device) -> Tensor:
    """int32 [Q]: quantiles of the standard Gumbel distribution in units of 1 / UNIT."""
    middle = (np.arange(QUANTILES) + 0.5) / QUANTILES
    noise = np.rint(-np.log(-np.log(middle)) * UNIT)
    return torch.from_numpy(noise.astype(np.int32)).to(device)
