"""The CPU path of masking: compiled loops over the sequences of a batch.

Each kernel has a twin in torch tensor code, which serves every other device; the two give the same
masks bit for bit (`tests/masking/test_strategies.py`). They release the GIL and allocate nothing.
Booleans travel as uint8, so that the inner loops become vector instructions.

Shapes: B sequences, T tokens, N packed tokens, M masked ones, V = 4**k k-mers, Q quantiles.
"""

import numpy as np

from cmgems.tokenization.base import CLS, FIRST_TOKEN, MASK, SEP
from cmgems.utils.kernels import kernel

_U1, _U2, _U3, _U4 = (np.uint32(c) for c in (0x9E3779B1, 0xED5AD4BB, 0xAC4C1B51, 0x31848BAB))
_PURPOSE = np.uint32(0x85EBCA6B)
FIRST = np.int32(-0x80000000)
NEVER = np.int32(0x7FFFFFFF)  # the order of tokens that cannot be masked: behind all others
# Of maskable tokens without a k-mer: behind all k-mers in any table, with noise before LAST.
UNRANKED = np.int32(1 << 30)


@kernel
def draw(low, high, place, purpose):
    """`cmgems.utils.rng`: 32 random bits for one token; uint32 in and out."""
    x = np.uint32(np.uint32(place * _U1) + low + np.uint32(purpose * _PURPOSE))
    x = np.uint32((x ^ (x >> np.uint32(17))) * _U2)
    x = np.uint32(x ^ high)
    x = np.uint32((x ^ (x >> np.uint32(11))) * _U3)
    x = np.uint32((x ^ (x >> np.uint32(15))) * _U4)
    return np.uint32(x ^ (x >> np.uint32(14)))


@kernel
def draw_centres(maskable_BT, keys_B2, first_place, purpose, rate_B, centres_BT):
    """Each maskable token with the probability of its sequence."""
    for b in range(len(maskable_BT)):
        low, high = keys_B2[b, 0], keys_B2[b, 1]
        # u / 2**24 < rate, in whole numbers
        limit = np.uint32(np.ceil(np.float64(rate_B[b]) * 16777216.0))
        for t in range(maskable_BT.shape[1]):
            u = draw(low, high, np.uint32(t + first_place), purpose) & np.uint32(0xFFFFFF)
            centres_BT[b, t] = np.uint8(u < limit) & maskable_BT[b, t]


@kernel
def look_up(kmers_BT, maskable_BT, table_V, score_BT):
    """The table's value of each k-mer; UNRANKED for no k-mer, LAST where nothing can be masked."""
    for b in range(len(kmers_BT)):
        for t in range(kmers_BT.shape[1]):
            index = kmers_BT[b, t] - np.int32(FIRST_TOKEN)
            order = table_V[max(index, np.int32(0))] if index >= 0 else UNRANKED
            score_BT[b, t] = order if maskable_BT[b, t] else NEVER


@kernel
def subtract_gumbel_noise(score_BT, keys_B2, first_place, purpose, noise_Q):
    """Subtract a random quantile from each order but LAST."""
    last_quantile = np.uint32(len(noise_Q) - 1)
    for b in range(len(score_BT)):
        low, high = keys_B2[b, 0], keys_B2[b, 1]
        for t in range(score_BT.shape[1]):
            if score_BT[b, t] != NEVER:
                u = draw(low, high, np.uint32(t + first_place), purpose)
                score_BT[b, t] -= noise_Q[u & last_quantile]


@kernel
def smallest_k(score_BT, count_B, chosen_BT):
    """The `count` smallest of each row, the leftmost of equal ones."""
    for b in range(len(score_BT)):
        _first(score_BT[b], count_B[b], chosen_BT[b])


@kernel
def _count_up_to(order, limit):
    count = np.int32(0)
    for t in range(len(order)):
        count += np.int32(order[t] <= limit)
    return count


@kernel
def _first(order, count, chosen):
    for t in range(len(order)):
        chosen[t] = 0
    if count < 1:
        return
    low, high = NEVER, FIRST
    for t in range(len(order)):
        low = min(low, order[t])
    for t in range(len(order)):
        high = max(high, order[t] if order[t] != NEVER else FIRST)
    if _count_up_to(order, high) < count:
        high = NEVER
    # Bisect for the count-th smallest: a vectorised count a step, whatever the number wanted.
    while low < high:
        middle = np.int32((np.int64(low) + np.int64(high)) >> 1)
        if _count_up_to(order, middle) >= count:
            high = middle
        else:
            low = np.int32(middle + 1)
    below = np.int32(0)
    for t in range(len(order)):
        below += np.int32(order[t] < low)
    spare = count - below
    for t in range(len(order)):
        equal = order[t] == low
        chosen[t] = np.uint8((order[t] < low) | (equal & (spare > 0)))
        spare -= np.int64(equal)


@kernel
def dilate(starts_BT, first, last, covered_BT):
    """Mark the window first .. last around each spot."""
    tokens = starts_BT.shape[1]
    for b in range(len(starts_BT)):
        spots, covered = starts_BT[b], covered_BT[b]
        for t in range(tokens):
            covered[t] = spots[t]
        for offset in range(1, min(last, tokens - 1) + 1):
            for t in range(tokens - offset):
                covered[t + offset] |= spots[t]
        for offset in range(1, min(-first, tokens - 1) + 1):
            for t in range(tokens - offset):
                covered[t] |= spots[t + offset]


@kernel
def dilate_spans(starts_BT, keys_B2, first_place, purpose, lengths_Q, covered_BT):
    """From each spot mark as many tokens as its draw says."""
    last_quantile = np.uint32(len(lengths_Q) - 1)
    for b in range(len(starts_BT)):
        low, high = keys_B2[b, 0], keys_B2[b, 1]
        end = np.int64(0)
        for t in range(starts_BT.shape[1]):
            if starts_BT[b, t]:
                u = draw(low, high, np.uint32(t + first_place), purpose)
                end = max(end, t + np.int64(lengths_Q[u & last_quantile]))
            covered_BT[b, t] = np.uint8(t < end)


@kernel
def argmin_in_window(score_BT, centres_BT, first, last, best_BT):
    """Place of the smallest order in the window of each centre, the leftmost of equal ones."""
    tokens = score_BT.shape[1]
    for b in range(len(score_BT)):
        order = score_BT[b]
        for t in range(tokens):
            if centres_BT[b, t]:
                best = max(t + first, 0)
                for near in range(best + 1, min(t + last, tokens - 1) + 1):
                    if order[near] < order[best]:
                        best = near
                best_BT[b, t] = best
            else:
                best_BT[b, t] = tokens


@kernel
def gather_or_last(score_BT, places_BT, taken_BT):
    """The order at each of the given places, LAST where the place is none (T)."""
    tokens = score_BT.shape[1]
    for b in range(len(score_BT)):
        for t in range(tokens):
            place = places_BT[b, t]
            taken_BT[b, t] = score_BT[b, place] if place < tokens else NEVER


@kernel
def scatter(places_BT, which_BT, marked_BT):
    """Mark the places that belong to the tokens in `which`."""
    tokens = places_BT.shape[1]
    for b in range(len(places_BT)):
        for t in range(tokens):
            marked_BT[b, t] = 0
        for t in range(tokens):
            if which_BT[b, t]:
                marked_BT[b, places_BT[b, t]] = 1


@kernel
def pack(ids_BT, mask_BT, lengths_B, keys_B2, bits, purpose, limits, ids_N, place_N, at_M, true_M):
    """Drop padding, put [CLS] and [SEP] around each sequence, corrupt what is masked.

    limits : a draw of 24 bits below the first becomes [MASK], one below the second a random token.
    """
    n = m = 0
    others = np.uint32((1 << bits) - 1)
    for b in range(len(ids_BT)):
        low, high = keys_B2[b, 0], keys_B2[b, 1]
        length = lengths_B[b]
        ids_N[n] = CLS
        place_N[n] = 0
        ids_N[n + 1 : n + 1 + length] = ids_BT[b, :length]
        for t in range(1, length + 2):
            place_N[n + t] = t
        for t in range(length):
            if mask_BT[b, t]:
                at = n + 1 + t
                at_M[m] = at
                true_M[m] = ids_BT[b, t]
                m += 1
                place = np.uint32(t + 1)
                u = draw(low, high, place, purpose) & np.uint32(0xFFFFFF)
                if u < limits[0]:
                    ids_N[at] = MASK
                elif u < limits[1]:
                    other = draw(low, high, place, purpose + np.uint32(1)) & others
                    ids_N[at] = FIRST_TOKEN + np.int32(other)
        ids_N[n + length + 1] = SEP
        n += length + 2
