"""Random centres: selection without knowledge of the sequence."""

from torch import Tensor

from cmgems.masking.tokens import PLAIN_WINDOW, Tokens, cover, wide_window


def random(tokens: Tokens) -> Tensor:
    """DNABERT's masking: k contiguous tokens around each centre. They hide a single base."""
    return cover(tokens.centres_BT, PLAIN_WINDOW[tokens.k]) & tokens.maskable_BT


def random_wide(tokens: Tokens) -> Tensor:
    """Control for span length: the wide window of the PMI strategies around random centres."""
    return cover(tokens.centres_BT, wide_window(tokens.k)) & tokens.maskable_BT
