"""Control for span length: the windows of the PMI strategies without PMI."""

from torch import Tensor

from cmgems.masking.operations import cover
from cmgems.masking.tokens import Tokens, wide_window


def random_wide(tokens: Tokens) -> Tensor:
    """2k - 1 tokens around each drawn centre. They hide the k bases of the middle one."""
    return cover(tokens.centres_BT, wide_window(tokens.k)) & tokens.maskable_BT
