"""`global_pmi` with the k-mers ranked by a Markov model, or by the model that is trained.

Bits per base of a k-mer by the Markov model say how hard it is for counting
(`cmgems.difficulty.markov_bits`). PMI does not: what it ranks first are words of repeats, which
counting finds easy.
"""

from torch import Tensor

from cmgems.masking.ops import gather_scores
from cmgems.masking.strategies.pmi_ranked import mask_wide_around_top
from cmgems.masking.types import StrategyInput, reversed_ranks


def loss_adaptive(tokens: StrategyInput) -> Tensor:
    """The k-mers on which the model's running loss is highest.

    Until something has been observed the ranks are those of PMI.
    """
    return mask_wide_around_top(tokens, gather_scores(tokens.ranks.loss_V, tokens))


def markov_hard(tokens: StrategyInput) -> Tensor:
    """The k-mers that cost a Markov model the most bits per base."""
    return mask_wide_around_top(tokens, gather_scores(tokens.ranks.markov_V, tokens))


def markov_easy(tokens: StrategyInput) -> Tensor:
    """The k-mers that cost a Markov model the fewest bits per base."""
    return mask_wide_around_top(
        tokens, gather_scores(reversed_ranks(tokens.ranks.markov_V), tokens)
    )


def reducible(tokens: StrategyInput) -> Tensor:
    """The k-mers on whose hidden bases the model spends most bits more than a Markov model does.

    What neither knows is left out as well as what both know. The idea is that of the reducible
    holdout loss (RHO-loss: Mindermann et al., ICML 2022), with a reference that counts in place of
    a second network. Until something has been observed it is `markov_easy`.
    """
    return mask_wide_around_top(tokens, gather_scores(tokens.ranks.reducible_V, tokens))
