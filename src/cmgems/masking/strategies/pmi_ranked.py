"""Strategies that mask around the best-ranked tokens, by PMI."""

import numpy as np
import torch
from torch import Tensor

from cmgems.masking.ops import (
    argmin_in_window,
    dilate,
    gather_or_last,
    gather_scores,
    made_once,
    scatter,
    smallest_k,
    subtract_gumbel_noise,
    widen,
)
from cmgems.masking.types import StrategyInput, Tuned, reversed_ranks
from cmgems.utils.rng import generator

# The published rule masks wide windows at *all* centres when the better half has fewer than this
# many. It was made for 512 tokens; on shorter sequences it would always fire, so it is scaled.
FEW_CENTERS = 5
FEW_CENTERS_TOKENS = 512
TOKENS_PER_CENTER = FEW_CENTERS_TOKENS / FEW_CENTERS  # with each of these the rule jumps


def genemask(tokens: StrategyInput) -> Tensor:
    """Around each drawn centre look for the best-ranked token; mask widely at the better half.

    Of n centres, the ceil(n / 2) whose best token ranks best mask a wide window around that token
    (2k - 1 k-mers), the others a plain one around the centre itself (k k-mers). Source: GeneMask
    (Roy et al., ECAI 2023).
    """
    centers_BK = tokens.centers_BK
    drawn_B1 = centers_BK.sum(1, keepdim=True)
    better_B1 = (drawn_B1 + 1) // 2
    few_B1 = better_B1 * FEW_CENTERS_TOKENS < FEW_CENTERS * tokens.maskable_BK.sum(1, keepdim=True)
    wide_B1 = torch.where(few_B1, drawn_B1, better_B1)

    score_BK = gather_scores(tokens.ranks.pmi_V, tokens)
    best_BK = argmin_in_window(score_BK, centers_BK, tokens.windows.search)
    wide_BK = smallest_k(gather_or_last(score_BK, best_BK), wide_B1)
    covered_BK = widen(scatter(best_BK, wide_BK), tokens)
    covered_BK |= dilate(centers_BK & ~wide_BK, tokens.windows.plain)
    return covered_BK & tokens.maskable_BK


def global_pmi(tokens: StrategyInput) -> Tensor:
    """As many centres as are drawn, but at the best-ranked tokens of the whole sequence.

    Source: CM-GEMS (Roy, Sural, Ganguly, ECAI 2024); each centre masks 2k - 1 k-mers, so
    that the k bases of the middle one are hidden.
    """
    return mask_wide_around_top(tokens, gather_scores(tokens.ranks.pmi_V, tokens))


def mask_wide_around_top(tokens: StrategyInput, score_BK: Tensor) -> Tensor:
    """Wide windows at the tokens of the lowest scores, as many as there are drawn centres."""
    drawn_B1 = tokens.centers_BK.sum(1, keepdim=True)
    return widen(smallest_k(score_BK, drawn_B1), tokens) & tokens.maskable_BK


def inverse_pmi(tokens: StrategyInput) -> Tensor:
    """`global_pmi` from the other end: the lowest-ranked tokens of the sequence."""
    return mask_wide_around_top(tokens, gather_scores(reversed_ranks(tokens.ranks.pmi_V), tokens))


UNIT = 1 << 20  # scores are whole numbers of 1 / UNIT
MAX_SCORE = 1 << 30
QUANTILES = 1 << 14


def _sample_by_pmi(tokens: StrategyInput, temperature: Tensor) -> Tensor:
    """As many centres as are drawn, sampled with a probability that grows with their rank.

    With s = 1 for the best-ranked k-mer of the vocabulary, 0 for the last, and linear between them,
    centres are sampled without replacement with weights exp(s / temperature), by adding Gumbel
    noise to s / temperature and taking the largest (Kool et al., ICML 2019). A temperature near 0
    is `global_pmi`, a large one `random_wide`; 0.1 prefers the best to the middle rank e**5 times.
    Unlike a static selection it does not mask the same positions of a sequence every time.
    """
    score_V = scaled_scores(tokens.ranks.pmi_V, temperature)
    score_BK = gather_scores(score_V, tokens)
    return mask_wide_around_top(
        tokens, subtract_gumbel_noise(score_BK, gumbel(score_V.device), tokens)
    )


@made_once
def _temperature_on(temperature: float, device: torch.device) -> Tensor:
    """float64 [1]"""
    return torch.tensor([temperature], dtype=torch.float64, device=device)


soft_pmi = Tuned(("temperature",), _temperature_on, _sample_by_pmi)


def scaled_scores(rank_V: Tensor, temperature: Tensor) -> Tensor:
    """int32 [V]: (1 - s) / temperature (float64 [1]) in units of 1 / UNIT."""
    step = UNIT / (temperature * max(len(rank_V) - 1, 1))
    return ((rank_V - 1).double() * step).clamp_(max=MAX_SCORE).int()


@made_once
def gumbel(device: torch.device) -> Tensor:
    """int32 [Q]: quantiles of the standard Gumbel distribution in units of 1 / UNIT."""
    middle = (np.arange(QUANTILES) + 0.5) / QUANTILES
    noise = np.rint(-np.log(-np.log(middle)) * UNIT)
    return torch.from_numpy(noise.astype(np.int32)).to(device)


def shuffled_pmi(tokens: StrategyInput) -> Tensor:
    """`global_pmi` with the ranks permuted among the k-mers at random: the same selection, as
    static and as clustered by content, without information. Every run has the same permutation."""
    permutation_V = _permutation(len(tokens.ranks.pmi_V), tokens.ranks.pmi_V.device)
    return mask_wide_around_top(tokens, gather_scores(tokens.ranks.pmi_V[permutation_V], tokens))


@made_once
def _permutation(num_kmers: int, device: torch.device) -> Tensor:
    rng = generator(0, "shuffled_pmi")
    return torch.from_numpy(rng.permutation(num_kmers)).to(device)
