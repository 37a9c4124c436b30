"""Masking strategies, slow and obvious: one sequence, Python lists, straight from the papers.

A sequence is a list of token ids, `rank[i]` the rank of a k-mer (1 = first to mask), `centers` the
positions that were drawn, `tok` what a token is (`Kmers`, `Bases` ...), `key` the two
32-bit words that key the sequence's draws, `params` has `span_width` and `temperature`. Each
returns the set of masked positions.
"""

import math
import random as python_random

MASK_LIST = {3: (-1, 1), 4: (-1, 2), 5: (-2, 2), 6: (-2, 3)}
STRATEGY = 3
LETTERS = "ATCG"  # in the order of ids and of k-mers


class Kmers:
    """Overlapping k-mers: k masked in a row hide one base, 2k - 1 hide k bases."""

    def __init__(self, k):
        self.k, self.plain, self.search, self.wide = k, MASK_LIST[k], MASK_LIST[k], (1 - k, k - 1)

    def span(self, bases):
        """Masked tokens in a row that hide so many bases."""
        return bases + self.k - 1

    def maskable(self, id_):
        return id_ >= 5

    def wide_at(self, ids, position):
        """Offsets of the wide window around a token."""
        return self.wide

    def rank_at(self, ids, position, rank):
        return rank[ids[position] - 5]


class Bases:
    """Single bases: a masked base is hidden. Its k-mer is the one that has it in the middle."""

    def __init__(self, k):
        first, last = MASK_LIST[k]
        self.k, self.plain, self.wide = k, (0, 0), (first, last)
        self.search = -last, -first  # bases whose k-mers contain this one

    def span(self, bases):
        return bases

    def maskable(self, id_):
        return 5 <= id_ <= 8

    def wide_at(self, ids, position):
        return self.wide

    def rank_at(self, ids, position, rank):
        """None where the k-mer is cut off by an end of the sequence, or has an N."""
        first = position + MASK_LIST[self.k][0]
        kmer = ids[first : first + self.k] if first >= 0 else []
        if len(kmer) < self.k or not all(self.maskable(id_) for id_ in kmer):
            return None
        index = 0
        for id_ in kmer:
            index = 4 * index + LETTERS.index("ATCG"[id_ - 5])
        return rank[index]


class Adjacent:
    """Non-overlapping k-mers, ids 5 on, then A T C G and N: a masked token is hidden whole."""

    def __init__(self, k):
        self.k, self.plain, self.wide, self.search = k, (0, 0), (0, 0), (-1, 1)

    def span(self, bases):
        return math.ceil(bases / self.k)

    def maskable(self, id_):
        return 5 <= id_ < 5 + 4**self.k + 4

    def wide_at(self, ids, position):
        return self.wide

    def rank_at(self, ids, position, rank):
        """None for a single base."""
        return rank[ids[position] - 5] if 5 <= ids[position] < 5 + 4**self.k else None


class Pairs:
    """Byte pairs: `ngrams` are {n-gram: its place in tables}, `order` {n-gram: its rank}."""

    def __init__(self, ngrams, order, bases_per_token):
        self.ngrams, self.order, self.bases_per_token = ngrams, order, bases_per_token
        self.plain, self.search = (0, 0), (-4, 0)

    def span(self, bases):
        return math.ceil(bases / self.bases_per_token)

    def maskable(self, id_):
        return id_ >= 5

    def unit(self, ids, position):
        """The best-ranked n-gram that begins there; None if there is none."""
        found = [tuple(ids[position : position + n]) for n in range(2, 6)]
        return min((x for x in found if x in self.order), key=self.order.get, default=None)

    def wide_at(self, ids, position):
        unit = self.unit(ids, position)
        return (0, len(unit) - 1 if unit else 0)

    def rank_at(self, ids, position, rank):
        unit = self.unit(ids, position)
        return rank[self.ngrams[unit] if unit else len(self.ngrams) + ids[position] - 5]


def draw(key, position, purpose):
    """32 random bits: multiply-xorshift rounds keyed by 64 bits."""
    word = 2**32
    x = (position * 0x9E3779B1 + key[0] + purpose * 0x85EBCA6B) % word
    x = ((x ^ x >> 17) * 0xED5AD4BB) % word
    x ^= key[1]
    x = ((x ^ x >> 11) * 0xAC4C1B51) % word
    x = ((x ^ x >> 15) * 0x31848BAB) % word
    return x ^ x >> 14


def maskable(ids, tok):
    return [p for p in range(len(ids)) if tok.maskable(ids[p])]


def drawn_centers(ids, tok, key, rate):
    return [p for p in maskable(ids, tok) if draw(key, p, 0) % 2**24 < rate * 2**24]


def window(position, offsets, ids, tok):
    """Positions of a window that exist and can be masked."""
    first, last = offsets
    positions = range(max(0, position + first), min(len(ids) - 1, position + last) + 1)
    return {p for p in positions if tok.maskable(ids[p])}


def windows(positions, offsets, ids, tok):
    return set().union(*(window(p, offsets, ids, tok) for p in positions))


def wide_windows(positions, ids, tok):
    return set().union(*(window(p, tok.wide_at(ids, p), ids, tok) for p in positions))


def first_by(score, ids, tok, count):
    """The `count` maskable tokens of lowest score, the leftmost of equal ones."""
    return sorted(maskable(ids, tok), key=lambda p: (score(p), p))[:count]


def behind(rank, sign=1):
    """A rank to sort by: tokens without one are behind all others, from whichever end."""
    return math.inf if rank is None else sign * rank


def uniform(ids, centers, rank, tok, key, params):
    return set(centers)


def random(ids, centers, rank, tok, key, params):
    return windows(centers, tok.plain, ids, tok)


def random_wide(ids, centers, rank, tok, key, params):
    return wide_windows(centers, ids, tok)


def span(ids, centers, rank, tok, key, params):
    lengths = span_lengths(params.span_width)
    masked = set()
    for c in centers:
        hidden = lengths[draw(key, c, STRATEGY) % 4096]
        masked |= window(c, (0, tok.span(hidden) - 1), ids, tok)
    return masked


def span_lengths(mean):
    """4096 quantiles of the geometric distribution on 1 .. 10 / 3.8 of the mean with that mean."""
    max_length = max(1, round(10 / 3.8 * mean))
    lengths = range(1, max_length + 1)
    low, high = 0.0, 1.0
    for _ in range(60):
        ratio = (low + high) / 2
        weights = [ratio ** (n - 1.0) for n in lengths]
        current_mean = sum(w * n for w, n in zip(weights, lengths, strict=True)) / sum(weights)
        low, high = (ratio, high) if current_mean < mean else (low, ratio)
    quantiles = []
    for q in range(4096):
        wanted, n, up_to = (q + 0.5) / 4096 * sum(weights), 0, 0.0
        while up_to < wanted and n < max_length:
            up_to += weights[n]
            n += 1
        quantiles.append(n)
    return quantiles


def global_pmi(ids, centers, rank, tok, key, params):
    best = first_by(lambda p: behind(tok.rank_at(ids, p, rank)), ids, tok, len(centers))
    return wide_windows(best, ids, tok)


def shuffled_pmi(ids, centers, rank, tok, key, params):
    """Any permutation that the strategy names; see `test_shuffled_pmi_is_a_permutation`."""
    return global_pmi(ids, centers, rank, tok, key, params)


def inverse_pmi(ids, centers, rank, tok, key, params):
    best = first_by(lambda p: behind(tok.rank_at(ids, p, rank), -1), ids, tok, len(centers))
    return wide_windows(best, ids, tok)


def soft_pmi(ids, centers, rank, tok, key, params):
    def score(p):
        unit, kmer_rank = 2**20, tok.rank_at(ids, p, rank)
        uniform = (draw(key, p, STRATEGY) % 2**14 + 0.5) / 2**14
        gumbel = -math.log(-math.log(uniform))
        if kmer_rank is None:
            return 2**30 - round(gumbel * unit)
        rank_fraction = (kmer_rank - 1) / (len(rank) - 1)
        scaled = min(rank_fraction / params.temperature * unit, 2**30)
        return math.floor(scaled) - round(gumbel * unit)

    return wide_windows(first_by(score, ids, tok, len(centers)), ids, tok)


def genemask(ids, centers, rank, tok, key, params):
    def rank_at(p):
        return behind(tok.rank_at(ids, p, rank))

    def best_of(center):
        return min(window(center, tok.search, ids, tok), key=lambda p: (rank_at(p), p))

    by_rank = sorted(centers, key=lambda c: (rank_at(best_of(c)), c))
    better = (len(centers) + 1) // 2
    # "all of them if ceil(n / 2) < 5" at 512 tokens, in proportion at other lengths
    wide = len(centers) if better < 5 * len(maskable(ids, tok)) / 512 else better
    masked = set()
    for number, center in enumerate(by_rank):
        if number < wide:
            masked |= wide_windows([best_of(center)], ids, tok)
        else:
            masked |= window(center, tok.plain, ids, tok)
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
    "markov_easy": inverse_pmi,  # of the ranks by a Markov model, as the next one
    "markov_hard": global_pmi,
    "reducible": global_pmi,  # of the ranks by what a model can still learn
}


def rank_table(k, seed):
    """A random rank table, as a list."""
    ranks = list(range(1, 4**k + 1))
    python_random.Random(seed).shuffle(ranks)
    return ranks
