"""The operations that strategies are made of, each on whatever device its tensors are.

On a CPU they are compiled loops (`cmgems.masking.kernels`), elsewhere tensor code without host
synchronisation; the results are the same bit for bit. Scores and draws are whole numbers
throughout: no device rounds them differently. The lowest score is masked first. Q is a power of
two.
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


def draw_centers(
    maskable_BK: Tensor, keys_B2: Tensor, rate_B1: Tensor, purpose: int, position_offset: int = 0
) -> Tensor:
    """bool [B, K]: each maskable token is a centre with the probability of its sequence."""
    if use_cpu_kernels(maskable_BK):
        centers_BK = torch.empty(maskable_BK.shape, dtype=torch.bool)
        kernels.draw_centers(
            as_numpy(maskable_BK),
            as_uint32(keys_B2),
            position_offset,
            np.uint32(purpose),
            as_numpy(rate_B1[:, 0]),
            as_numpy(centers_BK),
        )
        return centers_BK
    positions_K = torch.arange(maskable_BK.shape[1], dtype=torch.int32, device=maskable_BK.device)
    uniform_BK = uniform_tensor(keys_B2[:, None], positions_K + position_offset, purpose)
    return (uniform_BK < rate_B1) & maskable_BK


def gather_scores(table_V: Tensor, tokens: StrategyInput) -> Tensor:
    """int32 [B, K]: the value in a table of the k-mer of each token; UNRANKED where a token has no
    k-mer, NEVER where it cannot be masked."""
    kmers_BK = tokens.tokenization.kmer_ids(tokens.ids_BK)
    if use_cpu_kernels(kmers_BK):
        score_BK = torch.empty(kmers_BK.shape, dtype=torch.int32)
        kernels.look_up(
            as_numpy(kmers_BK), as_numpy(tokens.maskable_BK), as_numpy(table_V), as_numpy(score_BK)
        )
        return score_BK
    score_BK = torch.where(
        kmers_BK >= FIRST_TOKEN, table_V[(kmers_BK - FIRST_TOKEN).clamp_(min=0)], UNRANKED
    )
    return torch.where(tokens.maskable_BK, score_BK, NEVER)


def subtract_gumbel_noise(score_BK: Tensor, noise_Q: Tensor, tokens: StrategyInput) -> Tensor:
    """Each score less a quantile drawn from int32 `noise_Q`; NEVER stays."""
    if use_cpu_kernels(score_BK):
        score_BK = score_BK.clone(memory_format=torch.contiguous_format)
        kernels.subtract_gumbel_noise(
            as_numpy(score_BK),
            as_uint32(tokens.keys_B2),
            tokens.position_offset,
            STRATEGY_DRAW,
            as_numpy(noise_Q),
        )
        return score_BK
    return torch.where(score_BK == NEVER, NEVER, score_BK - _quantiles(noise_Q, tokens))


def smallest_k(score_BK: Tensor, count_B1: Tensor) -> Tensor:
    """Mark the `count` lowest scores of each row, the leftmost of equal ones."""
    if use_cpu_kernels(score_BK):
        chosen_BK = torch.empty(score_BK.shape, dtype=torch.bool)
        kernels.smallest_k(as_numpy(score_BK), as_numpy(count_B1[:, 0].long()), as_numpy(chosen_BK))
        return chosen_BK
    if not score_BK.shape[1]:
        return torch.empty_like(score_BK, dtype=torch.bool)
    limit_B1 = score_BK.sort(dim=1).values.gather(1, (count_B1.long() - 1).clamp(min=0))
    below_BK, equal_BK = score_BK < limit_B1, score_BK == limit_B1
    spare_B1 = count_B1 - below_BK.sum(1, keepdim=True)
    return (below_BK | equal_BK & (equal_BK.cumsum(1) <= spare_B1)) & (count_B1 > 0)


def dilate(starts_BK: Tensor, window: tuple[int, int]) -> Tensor:
    """Mark every token that lies in the window of a start; windows end at the sequence's ends."""
    first, last = window
    if use_cpu_kernels(starts_BK):
        covered_BK = torch.empty(starts_BK.shape, dtype=torch.bool)
        kernels.dilate(as_numpy(starts_BK), first, last, as_numpy(covered_BK))
        return covered_BK
    # Starts up to the far end of each token's window, less those before it. (Chains of shifted
    # slices are thousands of lines of code to torch.compile, and crashed when compiled for a CPU.)
    width = last - first + 1
    before_BK = F.pad(starts_BK.int(), (last + 1, -first)).cumsum(1)
    return before_BK[:, width:] > before_BK[:, :-width]


def widen(starts_BK: Tensor, tokens: StrategyInput) -> Tensor:
    """Mark the wide window of each start."""
    lengths_BK = tokens.tokenization.unit_lengths(tokens.ids_BK)
    if lengths_BK is None:
        return dilate(starts_BK, tokens.windows.wide)
    if not starts_BK.shape[1]:
        return starts_BK.clone()
    positions_K = tokens.positions_K - tokens.position_offset
    end_BK = torch.where(starts_BK, positions_K + lengths_BK, 0)
    return positions_K < end_BK.cummax(dim=1).values


def dilate_spans(starts_BK: Tensor, lengths_Q: Tensor, tokens: StrategyInput) -> Tensor:
    """From each start on, mark as many tokens as a quantile drawn from int32 `lengths_Q` says."""
    if use_cpu_kernels(starts_BK):
        covered_BK = torch.empty(starts_BK.shape, dtype=torch.bool)
        kernels.dilate_spans(
            as_numpy(starts_BK),
            as_uint32(tokens.keys_B2),
            tokens.position_offset,
            STRATEGY_DRAW,
            as_numpy(lengths_Q),
            as_numpy(covered_BK),
        )
        return covered_BK
    if not starts_BK.shape[1]:
        return starts_BK.clone()
    positions_K = tokens.positions_K - tokens.position_offset
    end_BK = torch.where(starts_BK, positions_K + _quantiles(lengths_Q, tokens), 0)
    return positions_K < end_BK.cummax(dim=1).values


def argmin_in_window(score_BK: Tensor, centers_BK: Tensor, window: tuple[int, int]) -> Tensor:
    """int32 [B, K]: position of the lowest score in the window of each centre, the leftmost of
    equal ones; K where there is no centre."""
    first, last = window
    tokens = score_BK.shape[1]
    if use_cpu_kernels(score_BK):
        best_BK = torch.empty(score_BK.shape, dtype=torch.int32)
        kernels.argmin_in_window(
            as_numpy(score_BK), as_numpy(centers_BK), first, last, as_numpy(best_BK)
        )
        return best_BK
    positions_K = torch.arange(tokens, device=score_BK.device)
    key_BK = score_BK.long() * tokens + positions_K  # all different
    best_BK = key_BK.clone()
    for offset in range(first, last + 1):
        if offset < 0:
            best_BK[:, -offset:] = torch.minimum(best_BK[:, -offset:], key_BK[:, :offset])
        elif offset > 0:
            best_BK[:, :-offset] = torch.minimum(best_BK[:, :-offset], key_BK[:, offset:])
    return torch.where(centers_BK, best_BK % max(tokens, 1), tokens).int()


def gather_or_last(score_BK: Tensor, positions_BK: Tensor) -> Tensor:
    """int32 [B, K]: each row's scores at the given positions; NEVER where one is none (K)."""
    if use_cpu_kernels(score_BK):
        gathered_BK = torch.empty(score_BK.shape, dtype=torch.int32)
        kernels.gather_or_last(as_numpy(score_BK), as_numpy(positions_BK), as_numpy(gathered_BK))
        return gathered_BK
    return F.pad(score_BK, (0, 1), value=NEVER).gather(1, positions_BK.long())


def scatter(positions_BK: Tensor, which_BK: Tensor) -> Tensor:
    """bool [B, K]: the positions (less than K) that belong to the tokens in `which`."""
    if use_cpu_kernels(positions_BK):
        marked_BK = torch.empty(which_BK.shape, dtype=torch.bool)
        kernels.scatter(as_numpy(positions_BK), as_numpy(which_BK), as_numpy(marked_BK))
        return marked_BK
    tokens = positions_BK.shape[1]
    target_BK = torch.where(which_BK, positions_BK, tokens).long()  # one more column takes the rest
    return F.pad(torch.zeros_like(which_BK), (0, 1)).scatter_(1, target_BK, True)[:, :tokens]


def _quantiles(table_Q: Tensor, tokens: StrategyInput) -> Tensor:
    """int32 [B, K]: one of the table's values for each token, drawn."""
    bits = len(table_Q).bit_length() - 1
    return table_Q[random_bits(tokens.keys_B2[:, None], tokens.positions_K, STRATEGY, bits)]


MAX_TABLES = 64  # a ramp goes through some twenty values


def made_once(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Cache the tables that a function makes; they are constants to torch.compile.

    (`functools.lru_cache` is ignored by torch.compile, which would trace the making instead.)
    """
    tables: dict[Hashable, Tensor] = {}

    @torch.compiler.assume_constant_result
    @wraps(make)
    def table(*key: Hashable) -> Tensor:
        if key not in tables:
            if len(tables) >= MAX_TABLES:
                tables.clear()
            tables[key] = make(*key)
        return tables[key]

    return table
