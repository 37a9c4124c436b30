"""Byte pairs and the PMI of their n-grams, slow and obvious."""

import math
from collections import Counter
from itertools import pairwise

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def merge(text, merges):
    """The tokens of a text: the earliest learned pair that occurs is merged, the leftmost first."""
    tokens = list(text)
    while True:
        pairs = [pair for pair in pairwise(tokens) if pair in merges]
        if not pairs:
            return tokens
        first = min(pairs, key=merges.index)
        i, merged = 0, []
        while i < len(tokens):
            if tuple(tokens[i : i + 2]) == first:
                merged.append("".join(first))
                i += 2
            else:
                merged.append(tokens[i])
                i += 1
        tokens = merged


def cut(text, merges, piece=10_000):
    """The tokens of any text: pieces of known bases, one [UNK] for each other character."""
    tokens, run = [], ""
    for base in [*text.upper(), None]:
        if base is None or base not in "ACGT" or len(run) == piece:
            tokens += merge(run, merges)
            run = ""
        if base is None:
            break
        if base in "ACGT":
            run += base
        else:
            tokens.append("[UNK]")
    return tokens


def segmentations(ngram):
    """All ways to cut it into two or more contiguous pieces."""
    for cuts in range(1, 2 ** (len(ngram) - 1)):
        pieces, piece = [], [ngram[0]]
        for i, token in enumerate(ngram[1:]):
            if cuts >> i & 1:
                pieces.append(tuple(piece))
                piece = []
            piece.append(token)
        yield [*pieces, tuple(piece)]


def npmi(pieces, min_count, longest=5):
    """{n-gram: (count, normalized PMI)} of pieces, lists of ids."""
    counts, totals = Counter(), Counter()
    for ids in pieces:
        for n in range(1, longest + 1):
            for i in range(len(ids) - n + 1):
                counts[tuple(ids[i : i + n])] += 1
                totals[n] += 1

    def log_p(ngram):
        return math.log(counts[ngram] / totals[len(ngram)])

    scored = {}
    for ngram, count in counts.items():
        if len(ngram) > 1 and count >= min_count:
            pmi = min(log_p(ngram) - sum(map(log_p, parts)) for parts in segmentations(ngram))
            log_f = math.log(count)
            scored[ngram] = count, pmi * log_f / (log_f + math.log(min_count))
    return scored


def unit(ids, position, ranks):
    """(rank, tokens) of the best-ranked n-gram that begins at a position; None if there is none."""
    found = [
        (ranks[tuple(ids[position : position + n])], n)
        for n in range(2, 6)
        if tuple(ids[position : position + n]) in ranks and position + n <= len(ids)
    ]
    return min(found, default=None)
