"""The easy stage of CM-GEMS, and GeneMask's own strategy."""

import torch
from torch import Tensor

from cmgems.masking.operations import (
    at_places,
    best_nearby,
    cover,
    first_of_row,
    mark,
    order_by,
)
from cmgems.masking.tokens import PLAIN_WINDOW, Tokens, wide_window

# The published rule masks wide windows at *all* centres when the better half has fewer than this
# many. It was made for 512 tokens; on shorter sequences it would always fire, so it is scaled.
FEW_CENTRES = 5
FEW_CENTRES_LENGTH = 512
LENGTH_A_CENTRE = FEW_CENTRES_LENGTH / FEW_CENTRES  # with each of these the rule jumps


def genemask(tokens: Tokens) -> Tensor:
    """Around each drawn centre look for the best-ranked token; mask widely at the better half.

    Of n centres, the ceil(n / 2) whose best token ranks best mask 2k - 1 tokens around that token,
    the others the k tokens around the centre itself. Source: GeneMask (Roy et al., ECAI 2023).
    """
    centres_BT = tokens.centres_BT
    drawn_B1 = centres_BT.sum(1, keepdim=True)
    better_B1 = (drawn_B1 + 1) // 2
    few_B1 = better_B1 * FEW_CENTRES_LENGTH < FEW_CENTRES * tokens.maskable_BT.sum(1, keepdim=True)
    wide_B1 = torch.where(few_B1, drawn_B1, better_B1)

    order_BT = order_by(tokens.rank_V, tokens)
    best_BT = best_nearby(order_BT, centres_BT, PLAIN_WINDOW[tokens.k])
    wide_BT = first_of_row(at_places(order_BT, best_BT), wide_B1)
    covered_BT = cover(mark(best_BT, wide_BT), wide_window(tokens.k))
    covered_BT |= cover(centres_BT & ~wide_BT, PLAIN_WINDOW[tokens.k])
    return covered_BT & tokens.maskable_BT
