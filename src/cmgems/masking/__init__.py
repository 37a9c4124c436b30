"""Masking: which tokens are hidden, how they are corrupted, and when the rule changes.

A strategy is a function `Tokens -> mask_BT` (bool, never True where `tokens.maskable_BT` is not).
To add one to the catalogue: a file of its own, made of the operations in `operations.py`; a line
below; its slow twin in `tests/reference_masking.py`. A user's own needs no line here: an
experiment names it `package.module:Name`, see `cmgems.masking.registry`.
"""

from collections.abc import Callable

from torch import Tensor

from cmgems.masking.strategies.pmi_ranked import (
    genemask,
    global_pmi,
    inverse_pmi,
    loss_adaptive,
    shuffled_pmi,
    soft_pmi,
)
from cmgems.masking.strategies.random_spans import random, random_wide, span, uniform
from cmgems.masking.types import Tokens

Strategy = Callable[[Tokens], Tensor]

STRATEGIES: dict[str, Strategy] = {
    "uniform": uniform,
    "random": random,
    "random_wide": random_wide,
    "span": span,
    "genemask": genemask,
    "global_pmi": global_pmi,
    "shuffled_pmi": shuffled_pmi,
    "inverse_pmi": inverse_pmi,
    "soft_pmi": soft_pmi,
    "loss_adaptive": loss_adaptive,
}

# The settings that a strategy reads beside the mask fraction.
READS: dict[str, tuple[str, ...]] = {"span": ("span_width",), "soft_pmi": ("temperature",)}
