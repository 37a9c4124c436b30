"""Masking: which tokens are hidden, how they are corrupted, and when the rule changes.

A strategy is a function `Tokens -> mask_BT` (bool, never True where `tokens.maskable_BT` is not).
To add one to the catalogue: a file of its own, made of the operations in `operations.py`; a line
below; its slow twin in `tests/reference_masking.py`. A user's own needs no line here: an
experiment names it `package.module:Name`, see `cmgems.masking.custom`.
"""

from collections.abc import Callable

from torch import Tensor

from cmgems.masking.genemask import genemask
from cmgems.masking.global_pmi import global_pmi
from cmgems.masking.inverse_pmi import inverse_pmi
from cmgems.masking.loss_adaptive import loss_adaptive
from cmgems.masking.random import random
from cmgems.masking.random_wide import random_wide
from cmgems.masking.shuffled_pmi import shuffled_pmi
from cmgems.masking.soft_pmi import soft_pmi
from cmgems.masking.span import span
from cmgems.masking.tokens import Tokens
from cmgems.masking.uniform import uniform

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
