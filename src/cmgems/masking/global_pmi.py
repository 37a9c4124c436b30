"""The hard stage of CM-GEMS."""

from torch import Tensor

from cmgems.masking.operations import cover, first_of_row, order_by
from cmgems.masking.tokens import Tokens, wide_window


def global_pmi(tokens: Tokens) -> Tensor:
    """As many centres as are drawn, but at the best-ranked tokens of the whole sequence.

    Source: CM-GEMS (Roy, Sural, Ganguly, ECAI 2024); each centre masks 2k - 1 tokens.
    """
    return wide_at_first(tokens, order_by(tokens.rank_V, tokens))


def wide_at_first(tokens: Tokens, order_BT: Tensor) -> Tensor:
    """Wide windows at the first tokens of an order, as many as there are drawn centres."""
    drawn_B1 = tokens.centres_BT.sum(1, keepdim=True)
    return cover(first_of_row(order_BT, drawn_B1), wide_window(tokens.k)) & tokens.maskable_BT
