"""The operations that strategies are made of, each on whatever device its tensors are.

On a CPU they are compiled loops (`cmgems.masking.kernels`), elsewhere tensor code without host
synchronisation; the results are the same bit for bit. Orders and draws are whole numbers
throughout: no device rounds them differently.

Shapes: B sequences, T tokens, V = 4**k k-mers, Q quantiles (a power of two).
"""

from collections.abc import Callable, Hashable
from functools import wraps

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cmgems.masking import kernels
from cmgems.masking.types import STRATEGY, StrategyInput
from cmgems.tokenization.base import FIRST_TOKEN
from cmgems.utils.kernels import as_numpy, as_uint32, use_cpu_kernels
from cmgems.utils.rng import random_bits, uniform_tensor

NEVER, UNRANKED = int(kernels.NEVER), int(kernels.UNRANKED)
STRATEGY_DRAW = np.uint32(STRATEGY)


def draw_centres(
    maskable_BT: Tensor, keys_B2: Tensor, rate_B1: Tensor, purpose: int, first_place: int = 0
) -> Tensor:
    """bool [B, T]: each maskable token is a centre with the probability of its sequence."""
    if use_cpu_kernels(maskable_BT):
        centres_BT = torch.empty(maskable_BT.shape, dtype=torch.bool)
        kernels.draw_centres(
            as_numpy(maskable_BT),
            as_uint32(keys_B2),
            first_place,
            np.uint32(purpose),
            as_numpy(rate_B1[:, 0]),
            as_numpy(centres_BT),
        )
        return centres_BT
    places_T = torch.arange(maskable_BT.shape[1], dtype=torch.int32, device=maskable_BT.device)
    uniform_BT = uniform_tensor(keys_B2[:, None], places_T + first_place, purpose)
    return (uniform_BT < rate_B1) & maskable_BT


def gather_scores(table_V: Tensor, tokens: StrategyInput) -> Tensor:
    """int32 [B, T]: the value in a table of the k-mer of each token; UNRANKED where a token has no
    k-mer, LAST where it cannot be masked."""
    kmers_BT = tokens.tokenization.kmer_ids(tokens.ids_BT)
    if use_cpu_kernels(kmers_BT):
        score_BT = torch.empty(kmers_BT.shape, dtype=torch.int32)
        kernels.look_up(
            as_numpy(kmers_BT), as_numpy(tokens.maskable_BT), as_numpy(table_V), as_numpy(score_BT)
        )
        return score_BT
    score_BT = torch.where(
        kmers_BT >= FIRST_TOKEN, table_V[(kmers_BT - FIRST_TOKEN).clamp_(min=0)], UNRANKED
    )
    return torch.where(tokens.maskable_BT, score_BT, NEVER)


def subtract_gumbel_noise(score_BT: Tensor, noise_Q: Tensor, tokens: StrategyInput) -> Tensor:
    """Each order less a quantile drawn from int32 `noise_Q`; LAST stays."""
    if use_cpu_kernels(score_BT):
        score_BT = score_BT.clone(memory_format=torch.contiguous_format)
        kernels.subtract_gumbel_noise(
            as_numpy(score_BT),
            as_uint32(tokens.keys_B2),
            tokens.first_place,
            STRATEGY_DRAW,
            as_numpy(noise_Q),
        )
        return score_BT
    return torch.where(score_BT == NEVER, NEVER, score_BT - _quantiles(noise_Q, tokens))


def smallest_k(score_BT: Tensor, count_B1: Tensor) -> Tensor:
    """Mark the `count` smallest orders of each row, the leftmost of equal ones."""
    if use_cpu_kernels(score_BT):
        chosen_BT = torch.empty(score_BT.shape, dtype=torch.bool)
        kernels.smallest_k(as_numpy(score_BT), as_numpy(count_B1[:, 0].long()), as_numpy(chosen_BT))
        return chosen_BT
    if not score_BT.shape[1]:
        return torch.empty_like(score_BT, dtype=torch.bool)
    limit_B1 = score_BT.sort(dim=1).values.gather(1, (count_B1.long() - 1).clamp(min=0))
    below_BT, equal_BT = score_BT < limit_B1, score_BT == limit_B1
    spare_B1 = count_B1 - below_BT.sum(1, keepdim=True)
    return (below_BT | equal_BT & (equal_BT.cumsum(1) <= spare_B1)) & (count_B1 > 0)


def dilate(starts_BT: Tensor, window: tuple[int, int]) -> Tensor:
    """Mark every token that lies in the window of a spot; windows end at the sequence's ends."""
    first, last = window
    if use_cpu_kernels(starts_BT):
        covered_BT = torch.empty(starts_BT.shape, dtype=torch.bool)
        kernels.dilate(as_numpy(starts_BT), first, last, as_numpy(covered_BT))
        return covered_BT
    # Spots up to the far end of each token's window, less those before it. (Chains of shifted
    # slices are thousands of lines of code to torch.compile, and crashed when compiled for a CPU.)
    width = last - first + 1
    before_BT = F.pad(starts_BT.int(), (last + 1, -first)).cumsum(1)
    return before_BT[:, width:] > before_BT[:, :-width]


def dilate_spans(starts_BT: Tensor, lengths_Q: Tensor, tokens: StrategyInput) -> Tensor:
    """From each spot on, mark as many tokens as a quantile drawn from int32 `lengths_Q` says."""
    if use_cpu_kernels(starts_BT):
        covered_BT = torch.empty(starts_BT.shape, dtype=torch.bool)
        kernels.dilate_spans(
            as_numpy(starts_BT),
            as_uint32(tokens.keys_B2),
            tokens.first_place,
            STRATEGY_DRAW,
            as_numpy(lengths_Q),
            as_numpy(covered_BT),
        )
        return covered_BT
    if not starts_BT.shape[1]:
        return starts_BT.clone()
    places_T = tokens.places_T - tokens.first_place
    end_BT = torch.where(starts_BT, places_T + _quantiles(lengths_Q, tokens), 0)
    return places_T < end_BT.cummax(dim=1).values


def argmin_in_window(score_BT: Tensor, centres_BT: Tensor, window: tuple[int, int]) -> Tensor:
    """int32 [B, T]: place of the smallest order in the window of each centre, the leftmost of equal
    ones; T where there is no centre."""
    first, last = window
    tokens = score_BT.shape[1]
    if use_cpu_kernels(score_BT):
        best_BT = torch.empty(score_BT.shape, dtype=torch.int32)
        kernels.argmin_in_window(
            as_numpy(score_BT), as_numpy(centres_BT), first, last, as_numpy(best_BT)
        )
        return best_BT
    places_T = torch.arange(tokens, device=score_BT.device)
    key_BT = score_BT.long() * tokens + places_T  # all different
    best_BT = key_BT.clone()
    for offset in range(first, last + 1):
        if offset < 0:
            best_BT[:, -offset:] = torch.minimum(best_BT[:, -offset:], key_BT[:, :offset])
        elif offset > 0:
            best_BT[:, :-offset] = torch.minimum(best_BT[:, :-offset], key_BT[:, offset:])
    return torch.where(centres_BT, best_BT % max(tokens, 1), tokens).int()


def gather_or_last(score_BT: Tensor, places_BT: Tensor) -> Tensor:
    """int32 [B, T]: each row's orders at the given places; LAST where the place is none (T)."""
    if use_cpu_kernels(score_BT):
        taken_BT = torch.empty(score_BT.shape, dtype=torch.int32)
        kernels.gather_or_last(as_numpy(score_BT), as_numpy(places_BT), as_numpy(taken_BT))
        return taken_BT
    return F.pad(score_BT, (0, 1), value=NEVER).gather(1, places_BT.long())


def scatter(places_BT: Tensor, which_BT: Tensor) -> Tensor:
    """bool [B, T]: the places (less than T) that belong to the tokens in `which`."""
    if use_cpu_kernels(places_BT):
        marked_BT = torch.empty(which_BT.shape, dtype=torch.bool)
        kernels.scatter(as_numpy(places_BT), as_numpy(which_BT), as_numpy(marked_BT))
        return marked_BT
    tokens = places_BT.shape[1]
    target_BT = torch.where(which_BT, places_BT, tokens).long()  # one more column takes the rest
    return F.pad(torch.zeros_like(which_BT), (0, 1)).scatter_(1, target_BT, True)[:, :tokens]


def _quantiles(table_Q: Tensor, tokens: StrategyInput) -> Tensor:
    """int32 [B, T]: one of the table's values for each token, drawn."""
    bits = len(table_Q).bit_length() - 1
    return table_Q[random_bits(tokens.keys_B2[:, None], tokens.places_T, STRATEGY, bits)]


MOST = 64  # a ramp goes through some twenty values


def made_once(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Keep the tables that a function makes; constants to torch.compile.

    (`functools.lru_cache` is ignored by torch.compile, which would trace the making instead.)
    """
    kept: dict[Hashable, Tensor] = {}

    @torch.compiler.assume_constant_result
    @wraps(make)
    def table(*key: Hashable) -> Tensor:
        if key not in kept:
            if len(kept) >= MOST:
                kept.clear()
            kept[key] = make(*key)
        return kept[key]

    return table
