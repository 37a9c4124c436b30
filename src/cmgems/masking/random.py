"""DNABERT's masking."""

from torch import Tensor

from cmgems.masking.operations import cover
from cmgems.masking.tokens import PLAIN_WINDOW, Tokens


def random(tokens: Tokens) -> Tensor:
    """k contiguous tokens around each drawn centre. They hide a single base.

    Source: DNABERT (Ji et al., Bioinformatics 2021).
    """
    return cover(tokens.centres_BT, PLAIN_WINDOW[tokens.k]) & tokens.maskable_BT
