"""Strategies that mask around random centres, whatever the sequence."""

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from cmgems.masking.ops import dilate, dilate_spans, made_once, widen
from cmgems.masking.types import StrategyInput, Tuned

MAX_OVER_MEAN = 10 / 3.8  # SpanBERT cuts at 10 and gets a mean of 3.8
QUANTILES = 4096


def _mask_spans(tokens: StrategyInput, hidden_Q: Tensor) -> Tensor:
    """From each drawn centre on, a span that hides a geometric number of bases.

    A span that hides b bases is b + k - 1 overlapping k-mers, or b single bases; longer tokens side
    by side are hidden whole, as many as have b bases. The mean of b is the parameter `span_width`.
    Source: SpanBERT (Joshi et al., TACL 2020), with bases in place of words.
    """
    return (
        dilate_spans(tokens.centers_BK, tokens.tokenization.span_tokens(hidden_Q), tokens)
        & tokens.maskable_BK
    )


@made_once
def span_lengths(mean: float, device: torch.device) -> Tensor:
    """int32 [Q]: quantiles of a geometric distribution, cut so that the mean is `mean`."""
    max_length = max(1, round(MAX_OVER_MEAN * mean))
    lengths = np.arange(1, max_length + 1)

    def excess(ratio: float) -> float:
        return np.average(lengths, weights=ratio ** (lengths - 1.0)) - mean

    # of one probability to the one before it; at 1 all lengths are alike, and their mean is larger
    ratio = brentq(excess, 0.0, 1.0, xtol=1e-15)
    up_to = np.cumsum(ratio ** (lengths - 1.0))
    middle = (np.arange(QUANTILES) + 0.5) / QUANTILES
    drawn = 1 + np.searchsorted(up_to / up_to[-1], middle)
    return torch.from_numpy(drawn.astype(np.int32)).to(device)


span = Tuned(("span_width",), span_lengths, _mask_spans)


def random(tokens: StrategyInput) -> Tensor:
    """The tokens around each drawn centre that hide a single base: k k-mers, or one base.

    Source: DNABERT (Ji et al., Bioinformatics 2021).
    """
    return dilate(tokens.centers_BK, tokens.windows.plain) & tokens.maskable_BK


def random_wide(tokens: StrategyInput) -> Tensor:
    """The tokens around each drawn centre that hide k bases: 2k - 1 k-mers, or k bases."""
    return widen(tokens.centers_BK, tokens) & tokens.maskable_BK


def uniform(tokens: StrategyInput) -> Tensor:
    """Single tokens. A masked k-mer between unmasked neighbours can be read off them: k = 6 hides
    a base only where 6 masked tokens happen to lie side by side. A masked base is hidden."""
    return tokens.centers_BK
