"""The CPU path of masking: compiled loops over the sequences of a batch.

Each kernel has a twin in torch tensor code, which serves every other device; the two give the same
masks bit for bit (`tests/masking/test_strategies.py`). They release the GIL and allocate nothing.
Booleans travel as uint8, so that the inner loops become vector instructions.
"""

import numpy as np

from cmgems.tokenization.base import CLS, FIRST_TOKEN, MASK, SEP
from cmgems.utils.kernels import kernel

_U1, _U2, _U3, _U4 = (np.uint32(c) for c in (0x9E3779B1, 0xED5AD4BB, 0xAC4C1B51, 0x31848BAB))
_PURPOSE = np.uint32(0x85EBCA6B)
FIRST = np.int32(-0x80000000)
# Scores: the lowest is masked first.
NEVER = np.int32(0x7FFFFFFF)  # of tokens that cannot be masked: behind all others
# Of maskable tokens without a k-mer: behind all k-mers in any table, with noise before NEVER.
UNRANKED = np.int32(1 << 30)


@kernel
def draw(low: np.uint32, high: np.uint32, position: np.uint32, purpose: np.uint32) -> np.uint32:
    """`cmgems.utils.rng`: 32 random bits for one token; uint32 in and out."""
    x = np.uint32(np.uint32(position * _U1) + low + np.uint32(purpose * _PURPOSE))
    x = np.uint32((x ^ (x >> np.uint32(17))) * _U2)
    x = np.uint32(x ^ high)
    x = np.uint32((x ^ (x >> np.uint32(11))) * _U3)
    x = np.uint32((x ^ (x >> np.uint32(15))) * _U4)
    return np.uint32(x ^ (x >> np.uint32(14)))


@kernel
def draw_centers(
    maskable_BK: np.ndarray,
    keys_B2: np.ndarray,
    position_offset: int,
    purpose: np.uint32,
    rate_B: np.ndarray,
    centers_BK: np.ndarray,
) -> None:
    """Each maskable token with the probability of its sequence."""
    for b in range(len(maskable_BK)):
        low, high = keys_B2[b, 0], keys_B2[b, 1]
        # u / 2**24 < rate, in whole numbers
        limit = np.uint32(np.ceil(np.float64(rate_B[b]) * 16777216.0))
        for t in range(maskable_BK.shape[1]):
            u = draw(low, high, np.uint32(t + position_offset), purpose) & np.uint32(0xFFFFFF)
            centers_BK[b, t] = np.uint8(u < limit) & maskable_BK[b, t]


@kernel
def look_up(
    kmers_BK: np.ndarray, maskable_BK: np.ndarray, table_V: np.ndarray, score_BK: np.ndarray
) -> None:
    """The table's value of each k-mer; UNRANKED for no k-mer, NEVER where nothing can be masked."""
    for b in range(len(kmers_BK)):
        for t in range(kmers_BK.shape[1]):
            index = kmers_BK[b, t] - np.int32(FIRST_TOKEN)
            score = table_V[max(index, np.int32(0))] if index >= 0 else UNRANKED
            score_BK[b, t] = score if maskable_BK[b, t] else NEVER


@kernel
def subtract_gumbel_noise(
    score_BK: np.ndarray,
    keys_B2: np.ndarray,
    position_offset: int,
    purpose: np.uint32,
    noise_Q: np.ndarray,
) -> None:
    """Subtract a random quantile from each score but NEVER."""
    last_quantile = np.uint32(len(noise_Q) - 1)
    for b in range(len(score_BK)):
        low, high = keys_B2[b, 0], keys_B2[b, 1]
        for t in range(score_BK.shape[1]):
            if score_BK[b, t] != NEVER:
                u = draw(low, high, np.uint32(t + position_offset), purpose)
                score_BK[b, t] -= noise_Q[u & last_quantile]


@kernel
def smallest_k(score_BK: np.ndarray, count_B: np.ndarray, chosen_BK: np.ndarray) -> None:
    """The `count` smallest of each row, the leftmost of equal ones."""
    for b in range(len(score_BK)):
        _smallest_k(score_BK[b], count_B[b], chosen_BK[b])


@kernel
def _count_up_to(score_K: np.ndarray, limit: np.int32) -> np.int32:
    count = np.int32(0)
    for t in range(len(score_K)):
        count += np.int32(score_K[t] <= limit)
    return count


@kernel
def _smallest_k(score_K: np.ndarray, count: int, chosen_K: np.ndarray) -> None:
    for t in range(len(score_K)):
        chosen_K[t] = 0
    if count < 1:
        return
    low, high = NEVER, FIRST
    for t in range(len(score_K)):
        low = min(low, score_K[t])
    for t in range(len(score_K)):
        high = max(high, score_K[t] if score_K[t] != NEVER else FIRST)
    if _count_up_to(score_K, high) < count:
        high = NEVER
    # Bisect for the count-th smallest: a vectorized count per step, whatever the number wanted.
    while low < high:
        middle = np.int32((np.int64(low) + np.int64(high)) >> 1)
        if _count_up_to(score_K, middle) >= count:
            high = middle
        else:
            low = np.int32(middle + 1)
    below = np.int32(0)
    for t in range(len(score_K)):
        below += np.int32(score_K[t] < low)
    spare = count - below
    for t in range(len(score_K)):
        equal = score_K[t] == low
        chosen_K[t] = np.uint8((score_K[t] < low) | (equal & (spare > 0)))
        spare -= np.int64(equal)


@kernel
def dilate(starts_BK: np.ndarray, first: int, last: int, covered_BK: np.ndarray) -> None:
    """Mark the window first .. last around each start."""
    tokens = starts_BK.shape[1]
    for b in range(len(starts_BK)):
        starts_K, covered_K = starts_BK[b], covered_BK[b]
        for t in range(tokens):
            covered_K[t] = starts_K[t]
        for offset in range(1, min(last, tokens - 1) + 1):
            for t in range(tokens - offset):
                covered_K[t + offset] |= starts_K[t]
        for offset in range(1, min(-first, tokens - 1) + 1):
            for t in range(tokens - offset):
                covered_K[t] |= starts_K[t + offset]


@kernel
def dilate_spans(
    starts_BK: np.ndarray,
    keys_B2: np.ndarray,
    position_offset: int,
    purpose: np.uint32,
    lengths_Q: np.ndarray,
    covered_BK: np.ndarray,
) -> None:
    """From each start mark as many tokens as its draw says."""
    last_quantile = np.uint32(len(lengths_Q) - 1)
    for b in range(len(starts_BK)):
        low, high = keys_B2[b, 0], keys_B2[b, 1]
        end = np.int64(0)
        for t in range(starts_BK.shape[1]):
            if starts_BK[b, t]:
                u = draw(low, high, np.uint32(t + position_offset), purpose)
                end = max(end, t + np.int64(lengths_Q[u & last_quantile]))
            covered_BK[b, t] = np.uint8(t < end)


@kernel
def argmin_in_window(
    score_BK: np.ndarray, centers_BK: np.ndarray, first: int, last: int, best_BK: np.ndarray
) -> None:
    """Position of the lowest score in the window of each centre, the leftmost of equal ones."""
    tokens = score_BK.shape[1]
    for b in range(len(score_BK)):
        score_K = score_BK[b]
        for t in range(tokens):
            if centers_BK[b, t]:
                best = max(t + first, 0)
                for near in range(best + 1, min(t + last, tokens - 1) + 1):
                    if score_K[near] < score_K[best]:
                        best = near
                best_BK[b, t] = best
            else:
                best_BK[b, t] = tokens


@kernel
def gather_or_last(score_BK: np.ndarray, positions_BK: np.ndarray, gathered_BK: np.ndarray) -> None:
    """The score at each of the given positions, NEVER where the position is none (K)."""
    tokens = score_BK.shape[1]
    for b in range(len(score_BK)):
        for t in range(tokens):
            position = positions_BK[b, t]
            gathered_BK[b, t] = score_BK[b, position] if position < tokens else NEVER


@kernel
def scatter(positions_BK: np.ndarray, which_BK: np.ndarray, marked_BK: np.ndarray) -> None:
    """Mark the positions that belong to the tokens in `which`."""
    tokens = positions_BK.shape[1]
    for b in range(len(positions_BK)):
        for t in range(tokens):
            marked_BK[b, t] = 0
        for t in range(tokens):
            if which_BK[b, t]:
                marked_BK[b, positions_BK[b, t]] = 1


@kernel
def pack(
    ids_BK: np.ndarray,
    mask_BK: np.ndarray,
    lengths_B: np.ndarray,
    keys_B2: np.ndarray,
    replacements: int,
    purpose: np.uint32,
    limits: np.ndarray,
    ids_T: np.ndarray,
    positions_T: np.ndarray,
    at_M: np.ndarray,
    true_M: np.ndarray,
) -> None:
    """Drop padding, put [CLS] and [SEP] around each sequence, corrupt what is masked.

    limits : a draw of 24 bits below the first becomes [MASK], one below the second a random token.
    """
    n = m = 0
    choices = np.uint32(replacements)
    for b in range(len(ids_BK)):
        low, high = keys_B2[b, 0], keys_B2[b, 1]
        length = lengths_B[b]
        ids_T[n] = CLS
        positions_T[n] = 0
        ids_T[n + 1 : n + 1 + length] = ids_BK[b, :length]
        for t in range(1, length + 2):
            positions_T[n + t] = t
        for t in range(length):
            if mask_BK[b, t]:
                at = n + 1 + t
                at_M[m] = at
                true_M[m] = ids_BK[b, t]
                m += 1
                position = np.uint32(t + 1)
                u = draw(low, high, position, purpose) & np.uint32(0xFFFFFF)
                if u < limits[0]:
                    ids_T[at] = MASK
                elif u < limits[1]:
                    other = draw(low, high, position, purpose + np.uint32(1)) & np.uint32(
                        0x7FFFFFFF
                    )
                    ids_T[at] = FIRST_TOKEN + np.int32(other % choices)
        ids_T[n + length + 1] = SEP
        n += length + 2
