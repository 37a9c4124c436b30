"""Masking strategies, slow and obvious: one sequence, Python lists, straight from the papers.

A sequence is a list of token ids, `rank[id - 5]` the rank of a k-mer (1 = first to mask), `centres`
the places that were drawn. Each returns the set of masked places.
"""

PLAIN = {3: (-1, 1), 4: (-1, 2), 5: (-2, 2), 6: (-2, 3)}


def window(place, offsets, ids):
    """Places of a window that exist and are k-mers."""
    first, last = offsets
    places = range(max(0, place + first), min(len(ids) - 1, place + last) + 1)
    return {p for p in places if ids[p] >= 5}


def random(ids, centres, rank, k):
    return set().union(*(window(c, PLAIN[k], ids) for c in centres))


def random_wide(ids, centres, rank, k):
    return set().union(*(window(c, (1 - k, k - 1), ids) for c in centres))


def global_pmi(ids, centres, rank, k):
    places = [p for p in range(len(ids)) if ids[p] >= 5]
    best = sorted(places, key=lambda p: (rank[ids[p] - 5], p))[: len(centres)]
    return set().union(*(window(p, (1 - k, k - 1), ids) for p in best))


def genemask(ids, centres, rank, k):
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
    "random": random,
    "random_wide": random_wide,
    "genemask": genemask,
    "global_pmi": global_pmi,
}
