"""Masking: which tokens are hidden, how they are corrupted, and when the rule changes.

To add a strategy: write a function `Tokens -> mask_BT` in a file of its own, name it below, and
add it to the slow references in `tests/reference_masking.py`.
"""

from collections.abc import Callable

from torch import Tensor

from cmgems.masking.contiguous import random, random_wide
from cmgems.masking.genemask import genemask
from cmgems.masking.global_pmi import global_pmi
from cmgems.masking.tokens import Tokens

Strategy = Callable[[Tokens], Tensor]

STRATEGIES: dict[str, Strategy] = {
    "random": random,
    "random_wide": random_wide,
    "genemask": genemask,
    "global_pmi": global_pmi,
}
