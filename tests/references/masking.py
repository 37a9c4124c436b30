"""Masking strategies, slow and obvious: one sequence, Python lists, straight from the papers.

A sequence is a list of token ids, `rank[id - 5]` the rank of a k-mer (1 = first to mask), `centres`
the places that were drawn, `key` the two 32-bit words that key the sequence's draws, `settings` has
`span_width` and `temperature`. Each returns the set of masked places.
"""

import math
import random as python_random

PLAIN = {3: (-1, 1), 4: (-1, 2), 5: (-2, 2), 6: (-2, 3)}
STRATEGY = 3


def draw(key, place, purpose):
    """32 random bits: multiply-xorshift rounds keyed by 64 bits."""
    word = 2**32
    x = (place * 0x9E3779B1 + key[0] + purpose * 0x85EBCA6B) % word
    x = ((x ^ x >> 17) * 0xED5AD4BB) % word
    x ^= key[1]
    x = ((x ^ x >> 11) * 0xAC4C1B51) % word
    x = ((x ^ x >> 15) * 0x31848BAB) % word
    return x ^ x >> 14


def drawn_centres(ids, key, rate):
    return [p for p in range(len(ids)) if ids[p] >= 5 and draw(key, p, 0) % 2**24 < rate * 2**24]


def window(place, offsets, ids):
    """Places of a window that exist and are k-mers."""
    first, last = offsets
    places = range(max(0, place + first), min(len(ids) - 1, place + last) + 1)
    return {p for p in places if ids[p] >= 5}


def windows(places, offsets, ids):
    return set().union(*(window(p, offsets, ids) for p in places))


def first_by(order, ids, count):
    """The `count` k-mers of lowest order, the leftmost of equal ones."""
    places = [p for p in range(len(ids)) if ids[p] >= 5]
    return sorted(places, key=lambda p: (order(p), p))[:count]


def uniform(ids, centres, rank, k, key, settings):
    return set(centres)


def random(ids, centres, rank, k, key, settings):
    return windows(centres, PLAIN[k], ids)


def random_wide(ids, centres, rank, k, key, settings):
    return windows(centres, (1 - k, k - 1), ids)


def span(ids, centres, rank, k, key, settings):
    lengths = span_lengths(settings.span_width)
    masked = set()
    for c in centres:
        hidden = lengths[draw(key, c, STRATEGY) % 4096]
        masked |= window(c, (0, hidden + k - 2), ids)
    return masked


def span_lengths(mean):
    """4096 quantiles of the geometric distribution on 1 .. 10 / 3.8 of the mean with that mean."""
    longest = max(1, round(10 / 3.8 * mean))
    lengths = range(1, longest + 1)
    low, high = 0.0, 1.0
    for _ in range(60):
        ratio = (low + high) / 2
        weights = [ratio ** (n - 1.0) for n in lengths]
        got = sum(w * n for w, n in zip(weights, lengths, strict=True)) / sum(weights)
        low, high = (ratio, high) if got < mean else (low, ratio)
    quantiles = []
    for q in range(4096):
        wanted, n, upto = (q + 0.5) / 4096 * sum(weights), 0, 0.0
        while upto < wanted and n < longest:
            upto += weights[n]
            n += 1
        quantiles.append(n)
    return quantiles


def global_pmi(ids, centres, rank, k, key, settings):
    best = first_by(lambda p: rank[ids[p] - 5], ids, len(centres))
    return windows(best, (1 - k, k - 1), ids)


def shuffled_pmi(ids, centres, rank, k, key, settings):
    """Any permutation that the strategy names; see `test_shuffled_pmi_is_a_permutation`."""
    return global_pmi(ids, centres, rank, k, key, settings)


def inverse_pmi(ids, centres, rank, k, key, settings):
    best = first_by(lambda p: -rank[ids[p] - 5], ids, len(centres))
    return windows(best, (1 - k, k - 1), ids)


def soft_pmi(ids, centres, rank, k, key, settings):
    def order(p):
        unit, rank_share = 2**20, (rank[ids[p] - 5] - 1) / (len(rank) - 1)
        uniform = (draw(key, p, STRATEGY) % 2**14 + 0.5) / 2**14
        gumbel = -math.log(-math.log(uniform))
        return math.floor(min(rank_share / settings.temperature * unit, 2**30)) - round(
            gumbel * unit
        )

    best = first_by(order, ids, len(centres))
    return windows(best, (1 - k, k - 1), ids)


def genemask(ids, centres, rank, k, key, settings):
    def best_of(centre):
        return min(window(centre, PLAIN[k], ids), key=lambda p: (rank[ids[p] - 5], p))

    by_rank = sorted(centres, key=lambda c: (rank[ids[best_of(c)] - 5], c))
    better = (len(centres) + 1) // 2
    # "all of them if ceil(n / 2) < 5" at 512 tokens, in proportion at other lengths
    maskable = sum(id_ >= 5 for id_ in ids)
    wide = len(centres) if better < 5 * maskable / 512 else better
    masked = set()
    for number, centre in enumerate(by_rank):
        if number < wide:
            masked |= window(best_of(centre), (1 - k, k - 1), ids)
        else:
            masked |= window(centre, PLAIN[k], ids)
    return masked


REFERENCES = {
    "uniform": uniform,
    "random": random,
    "random_wide": random_wide,
    "span": span,
    "genemask": genemask,
    "global_pmi": global_pmi,
    "shuffled_pmi": shuffled_pmi,
    "inverse_pmi": inverse_pmi,
    "soft_pmi": soft_pmi,
    "loss_adaptive": global_pmi,  # of the ranks by loss
}


def rank_table(k, seed):
    """A random rank table, as a list."""
    ranks = list(range(1, 4**k + 1))
    python_random.Random(seed).shuffle(ranks)
    return ranks
