"""The masking strategies, by name.

A strategy is a function `StrategyInput -> mask_BK` (bool, never True where `tokens.maskable_BK` is
not), made of the operations in `cmgems.masking.ops`. To add one: a function in a module of this
folder, a line below, and its slow twin in `tests/references/masking.py`. A custom strategy needs no
line here: an experiment names it `package.module:Name`, see `cmgems.masking.registry`.
"""

from collections.abc import Callable

from torch import Tensor

from cmgems.masking.strategies.otherwise_ranked import (
    loss_adaptive,
    markov_easy,
    markov_hard,
    reducible,
)
from cmgems.masking.strategies.pmi_ranked import (
    genemask,
    global_pmi,
    inverse_pmi,
    shuffled_pmi,
    soft_pmi,
)
from cmgems.masking.strategies.random_spans import random, random_wide, span, uniform
from cmgems.masking.types import StrategyInput, Tuned

Strategy = Callable[[StrategyInput], Tensor]

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
    "markov_easy": markov_easy,
    "markov_hard": markov_hard,
    "reducible": reducible,
}

# The table of ranks that a strategy reads, where it is not that of PMI; a custom one may read any.
READS_RANKS = {
    "loss_adaptive": "loss_V",
    "markov_easy": "markov_V",
    "markov_hard": "markov_V",
    "reducible": "reducible_V",
}

# The params that a strategy reads next to the mask ratio.
READS = {name: tuned.reads for name, tuned in STRATEGIES.items() if isinstance(tuned, Tuned)}

# Those of them that a Markov model of k-mers has a part in: n-grams of byte pairs have none.
MARKOV_TABLES = ("markov_V", "reducible_V")


def reads_ranks(name: str, table: str) -> bool:
    """Whether a strategy may read a table of `cmgems.masking.types.RankTables`."""
    return name not in STRATEGIES or READS_RANKS.get(name, "pmi_V") == table


def wants_kmers(name: str) -> bool:
    """Whether a registered strategy cannot mask n-grams of byte pairs."""
    return READS_RANKS.get(name) in MARKOV_TABLES
