"""Control for the direction of difficulty."""

from torch import Tensor

from cmgems.masking.global_pmi import wide_at_first
from cmgems.masking.operations import order_by
from cmgems.masking.tokens import Tokens


def inverse_pmi(tokens: Tokens) -> Tensor:
    """`global_pmi` from the other end: the lowest-ranked tokens of the sequence."""
    return wide_at_first(tokens, order_by(len(tokens.rank_V) + 1 - tokens.rank_V, tokens))
