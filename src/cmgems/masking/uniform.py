"""BERT's masking."""

from torch import Tensor

from cmgems.masking.tokens import Tokens


def uniform(tokens: Tokens) -> Tensor:
    """Single tokens. A masked k-mer between unmasked neighbours can be read off them: k = 6 hides
    a base only where 6 masked tokens happen to lie side by side."""
    return tokens.centres_BT
