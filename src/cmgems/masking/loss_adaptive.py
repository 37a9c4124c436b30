"""Difficulty as the model itself finds it, in the place of PMI."""

from torch import Tensor

from cmgems.masking.global_pmi import wide_at_first
from cmgems.masking.operations import order_by
from cmgems.masking.tokens import Tokens


def loss_adaptive(tokens: Tokens) -> Tensor:
    """`global_pmi` with the k-mers ranked by the model's running loss on them, the highest first.

    Until something has been observed the ranks are those of PMI.
    """
    return wide_at_first(tokens, order_by(tokens.loss_rank_V, tokens))
