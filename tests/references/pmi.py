"""Slow, obvious k-mer counts and PMI, to check the fast ones against."""

import itertools
import math
from collections import Counter

BASES = "ATCG"


def all_kmers(k: int) -> list[str]:
    """In the order of their ids."""
    return ["".join(letters) for letters in itertools.product(BASES, repeat=k)]


def reference_counts(contigs: list[str], k: int) -> list[int]:
    """Counts of the k-mers of A, C, G, T within each contig, in the order of their ids."""
    counts: Counter[str] = Counter()
    for contig in contigs:
        contig = contig.upper()
        counts.update(contig[i : i + k] for i in range(len(contig) - k + 1))
    return [counts[kmer] for kmer in all_kmers(k)]


def segmentations(word: str) -> list[list[str]]:
    """Every way to cut a word into two or more segments: 2**(k-1) - 1 of them."""
    segmented = []
    for cuts in itertools.product((False, True), repeat=len(word) - 1):
        if any(cuts):
            edges = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(word)]
            segmented.append([word[a:b] for a, b in itertools.pairwise(edges)])
    return segmented


def reference_pmi(
    word: str, counts: dict[str, int], totals: dict[int, int], definition: str
) -> float:
    """PMI of a word by the formula, over all segmentations; `counts` holds words of all lengths."""
    halved = 2 if definition == "published" else 1
    longest = 2 if definition == "published" else len(word)

    def p(segment: str) -> float:
        return counts[segment] / (halved * totals[len(segment)])

    return min(
        math.log(p(word) / math.prod(map(p, segments)))
        for segments in segmentations(word)
        if max(map(len, segments)) <= longest
    )
