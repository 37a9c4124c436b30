"""Test sequences that are in the training examples, or in the DNA of pretraining.

Sequences are compared as DNA: a reverse complement is the same molecule. Near duplicates are found
exactly, not by sketches: the Jaccard index of the sets of canonical k-mers (the lesser of a k-mer
and its reverse complement, as numbers in base 4) of each pair of sequences that shares one.
"""

from dataclasses import dataclass

import numpy as np

from cmgems.genome.spans import Spans
from cmgems.tasks.dataset import LabelledSequences, canonical_keys
from cmgems.utils.kernels import kernel

NEAR = 0.5  # Jaccard index from which on two sequences are near duplicates
GENOME_K = 24  # bases: two places agree by chance once in 4**24 = 3e14 pairs of places


@dataclass(frozen=True)
class Duplicates:
    """bool [N_test] each: which test sequences have one in training; a sequence is in one alone."""

    exact: np.ndarray
    reverse: np.ndarray
    near: np.ndarray
    jaccard: np.ndarray  # float32 [N_test]: of the nearest training sequence
    k: int

    @property
    def any(self) -> np.ndarray:
        return self.exact | self.reverse | self.near


def find_duplicates(
    train: LabelledSequences, test: LabelledSequences, near: float = NEAR
) -> Duplicates:
    """Which test sequences are in the training examples, exactly or nearly.

    k is a fifth of the median length, 8 to 12: one substitution in the middle leaves a sequence a
    near duplicate, and two unrelated ones share hardly a k-mer.
    """
    copies = {train.sequence(i).tobytes() for i in range(len(train))}
    both = set(canonical_keys(train))
    exact = np.array([test.sequence(i).tobytes() in copies for i in range(len(test))], bool)
    on_either = np.array([key in both for key in canonical_keys(test)], bool)
    k = int(np.clip(np.median(test.lengths) // 5, 8, 12))
    jaccard = nearest_jaccard(train, test, k)
    reverse = on_either & ~exact
    return Duplicates(exact, reverse, (jaccard >= near) & ~on_either, jaccard, k)


def nearest_jaccard(train: LabelledSequences, test: LabelledSequences, k: int) -> np.ndarray:
    """float32 [N_test]: the largest Jaccard index of canonical k-mer sets with a training sequence.

    Exact: for each training sequence, the k-mers that it shares with each test sequence are
    counted through an index of the test split's k-mers.
    """
    test_words, test_ends = kmer_sets(test, k)
    train_words, train_ends = kmer_sets(train, k)
    owner = np.repeat(np.arange(len(test)), np.diff(test_ends, prepend=0))
    order = np.argsort(test_words, kind="stable")
    distinct, first = np.unique(test_words[order], return_index=True)
    place = np.searchsorted(distinct, train_words)
    place[place == len(distinct)] = 0
    if len(distinct):
        place = np.where(distinct[place] == train_words, place, -1)
    else:
        place = np.full(len(train_words), -1)
    posting_ends = np.append(first, len(order))
    sizes = np.diff(test_ends, prepend=0)
    return _nearest(place, train_ends, posting_ends, owner[order].astype(np.int32), sizes)


@kernel
def _nearest(place, train_ends, posting_ends, owner, sizes):
    best = np.zeros(len(sizes), np.float32)
    shared = np.zeros(len(sizes), np.int32)
    touched = np.empty(len(sizes), np.int32)
    start = 0
    for i in range(len(train_ends)):
        met = 0
        for j in range(start, train_ends[i]):
            if place[j] < 0:
                continue
            for p in range(posting_ends[place[j]], posting_ends[place[j] + 1]):
                other = owner[p]
                if shared[other] == 0:
                    touched[met] = other
                    met += 1
                shared[other] += 1
        size = train_ends[i] - start
        for t in range(met):
            other = touched[t]
            index = np.float32(shared[other]) / np.float32(size + sizes[other] - shared[other])
            best[other] = max(best[other], index)
            shared[other] = 0
        start = train_ends[i]
    return best


def kmer_sets(data: LabelledSequences, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct canonical k-mers of each sequence, one sequence behind the other, and their ends.

    A canonical k-mer is the lesser of a k-mer and its reverse complement, as numbers in base 4;
    k-mers with N are left out. int64 [total], int64 [N]; k at most 31.
    """
    words = np.empty(len(data.codes), np.int64)
    ends = np.empty(len(data), np.int64)
    total = _canonical_sets(data.codes, data.offsets, k, words, ends)
    return words[:total], ends


@kernel
def _roll(forward, reverse, code, k):
    """A k-mer and its reverse complement, one base further."""
    mask = (np.int64(1) << np.int64(2 * k)) - 1
    return (forward << 2 | code) & mask, reverse >> 2 | (code ^ 1) << np.int64(2 * (k - 1))


@kernel
def _canonical_sets(codes, offsets, k, words, ends):
    filled = 0
    for i in range(len(offsets) - 1):
        begin = filled
        forward, reverse, known = np.int64(0), np.int64(0), 0
        for place in range(offsets[i], offsets[i + 1]):
            code = np.int64(codes[place])
            if code > 3:
                known = 0
                continue
            forward, reverse = _roll(forward, reverse, code, k)
            known += 1
            if known >= k:
                words[filled] = min(forward, reverse)
                filled += 1
        words[begin:filled].sort()
        kept = begin
        for j in range(begin, filled):
            if j == begin or words[j] != words[j - 1]:
                # never behind the place that is read
                words[kept] = words[j]
                kept += 1
        filled = kept
        ends[i] = filled
    return filled


def containment(codes: np.ndarray, spans: Spans, test: LabelledSequences) -> np.ndarray:
    """float32 [N]: which share of a sequence's k-mers the spans of a genome have, on either strand.

    Parameters
    ----------
    codes : uint8, `Genome.codes`
    spans : of the genome, for instance those that a model was pretrained on
    test : sequences to look for; k is 24, or their median length where that is less

    Returns
    -------
    1.0 for a sequence that lies in the spans; nan for one without a k-mer (shorter, or all N)
    """
    k = int(min(GENOME_K, np.median(test.lengths)))
    words, ends = kmer_sets(test, k)
    distinct, inverse = np.unique(words, return_inverse=True)
    slots = 1 << max(4, int(4 * len(distinct)).bit_length())
    table = _hash_table(distinct, slots)
    found = np.zeros(len(distinct), np.uint8)
    for start, end in zip(spans.start.tolist(), spans.end.tolist(), strict=True):
        _mark_found(np.asarray(codes[start:end]), k, distinct, table, found)
    sizes = np.diff(ends, prepend=0)
    summed = np.concatenate([[0], np.cumsum(found[inverse], dtype=np.int64)])
    counts = summed[ends] - summed[ends - sizes]
    return np.where(sizes > 0, counts / np.maximum(sizes, 1), np.nan).astype(np.float32)


@kernel
def _slot(word, slots):
    """Where to look for a word first: Fibonacci hashing, `slots` a power of two."""
    mixed = np.uint64(word) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed >> np.uint64(32)) & np.uint64(slots - 1))


@kernel
def _hash_table(words, slots):
    """int32 [slots]: number of the word that stands in a slot, or -1."""
    table = np.full(slots, -1, np.int32)
    for i in range(len(words)):
        at = _slot(words[i], slots)
        while table[at] >= 0:
            at = (at + 1) & (slots - 1)
        table[at] = i
    return table


@kernel
def _mark_found(codes, k, words, table, found):
    slots = len(table)
    forward, reverse, known = np.int64(0), np.int64(0), 0
    for place in range(len(codes)):
        code = np.int64(codes[place])
        if code > 3:
            known = 0
            continue
        forward, reverse = _roll(forward, reverse, code, k)
        known += 1
        if known < k:
            continue
        word = min(forward, reverse)
        at = _slot(word, slots)
        while table[at] >= 0:
            if words[table[at]] == word:
                found[table[at]] = 1
                break
            at = (at + 1) & (slots - 1)
