"""The easy stage of CM-GEMS, and GeneMask's own strategy."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cmgems.masking.tokens import PLAIN_WINDOW, Tokens, cover, first_of_row, wide_window

# The published rule masks wide windows at *all* centres when the better half has fewer than this
# many. It was made for 512 tokens; on shorter sequences it would always fire, so it is scaled.
FEW_CENTRES = 5
FEW_CENTRES_LENGTH = 512


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

    width = tokens.ids_BT.shape[1]
    best_BT = _best_in_window(tokens.order_BT, PLAIN_WINDOW[tokens.k])
    rank_BT = torch.where(centres_BT, best_BT // width, len(tokens.rank_V) + 1)
    # Two centres may share their best token: the place of the centre keeps the order strict.
    wide_BT = first_of_row(rank_BT * width + tokens.places_T, wide_B1)

    target_BT = torch.where(wide_BT, best_BT % width, width).long()
    # One more column takes what is not a target.
    spots_BT = F.pad(torch.zeros_like(centres_BT), (0, 1)).scatter_(1, target_BT, True)[:, :-1]
    covered_BT = cover(spots_BT, wide_window(tokens.k))
    covered_BT |= cover(centres_BT & ~wide_BT, PLAIN_WINDOW[tokens.k])
    return covered_BT & tokens.maskable_BT


def _best_in_window(order_BT: Tensor, window: tuple[int, int]) -> Tensor:
    """The smallest key within the window around each token."""
    best_BT = order_BT.clone()
    for offset in range(window[0], window[1] + 1):
        if offset < 0:
            torch.minimum(best_BT[:, -offset:], order_BT[:, :offset], out=best_BT[:, -offset:])
        elif offset > 0:
            torch.minimum(best_BT[:, :-offset], order_BT[:, offset:], out=best_BT[:, :-offset])
    return best_BT
