"""The hard stage of CM-GEMS."""

from torch import Tensor

from cmgems.masking.tokens import Tokens, cover, first_of_row, wide_window


def global_pmi(tokens: Tokens) -> Tensor:
    """As many centres as are drawn, but at the best-ranked tokens of the whole sequence.

    Source: CM-GEMS (Roy, Sural, Ganguly, ECAI 2024); each centre masks 2k - 1 tokens.
    """
    drawn_B1 = tokens.centres_BT.sum(1, keepdim=True)
    best_BT = first_of_row(tokens.order_BT, drawn_B1)
    return cover(best_BT, wide_window(tokens.k)) & tokens.maskable_BT
