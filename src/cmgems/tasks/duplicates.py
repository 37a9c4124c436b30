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

MIN_NEAR_JACCARD = 0.5  # of two near duplicates
GENOME_K = 24  # bases: two positions agree by chance once in 4**24 = 3e14 pairs of positions


@dataclass(frozen=True)
class Duplicates:
    """bool [N_test] each: the test sequences that have a copy in training, each under one kind."""

    exact: np.ndarray
    reverse: np.ndarray
    near: np.ndarray
    jaccard: np.ndarray  # float32 [N_test]: of the nearest training sequence
    k: int

    @property
    def any(self) -> np.ndarray:
        return self.exact | self.reverse | self.near


def find_duplicates(
    train: LabelledSequences, test: LabelledSequences, near: float = MIN_NEAR_JACCARD
) -> Duplicates:
    """Which test sequences are in the training examples, exactly or nearly.

    k is a fifth of the median length, 8 to 12: one substitution in the middle leaves a sequence a
    near duplicate, and two unrelated ones share hardly a k-mer.
    """
    train_sequences = {train.sequence(i).tobytes() for i in range(len(train))}
    train_keys = set(canonical_keys(train))
    exact = np.array(
        [test.sequence(i).tobytes() in train_sequences for i in range(len(test))], bool
    )
    on_either_strand = np.array([key in train_keys for key in canonical_keys(test)], bool)
    k = int(np.clip(np.median(test.lengths) // 5, 8, 12))
    jaccard = nearest_jaccard(train, test, k)
    reverse = on_either_strand & ~exact
    return Duplicates(exact, reverse, (jaccard >= near) & ~on_either_strand, jaccard, k)


def nearest_jaccard(train: LabelledSequences, test: LabelledSequences, k: int) -> np.ndarray:
    """float32 [N_test]: the largest Jaccard index of canonical k-mer sets with a training sequence.

    Exact: for each training sequence, the k-mers that it shares with each test sequence are
    counted through an index of the test split's k-mers.
    """
    test_kmers, test_ends = kmer_sets(test, k)
    train_kmers, train_ends = kmer_sets(train, k)
    owner = np.repeat(np.arange(len(test)), np.diff(test_ends, prepend=0))
    order = np.argsort(test_kmers, kind="stable")
    distinct, first = np.unique(test_kmers[order], return_index=True)
    index = np.searchsorted(distinct, train_kmers)  # of each training k-mer among the distinct
    index[index == len(distinct)] = 0
    if len(distinct):
        index = np.where(distinct[index] == train_kmers, index, -1)
    else:
        index = np.full(len(train_kmers), -1)
    posting_ends = np.append(first, len(order))
    sizes = np.diff(test_ends, prepend=0)
    return _nearest(index, train_ends, posting_ends, owner[order].astype(np.int32), sizes)


@kernel
def _nearest(
    index: np.ndarray,
    train_ends: np.ndarray,
    posting_ends: np.ndarray,
    owner: np.ndarray,
    sizes: np.ndarray,
) -> np.ndarray:
    best = np.zeros(len(sizes), np.float32)
    shared = np.zeros(len(sizes), np.int32)
    touched = np.empty(len(sizes), np.int32)
    start = 0
    for i in range(len(train_ends)):
        met = 0
        for j in range(start, train_ends[i]):
            if index[j] < 0:
                continue
            for p in range(posting_ends[index[j]], posting_ends[index[j] + 1]):
                other = owner[p]
                if shared[other] == 0:
                    touched[met] = other
                    met += 1
                shared[other] += 1
        size = train_ends[i] - start
        for t in range(met):
            other = touched[t]
            union = size + sizes[other] - shared[other]
            jaccard = np.float32(shared[other]) / np.float32(union)
            best[other] = max(best[other], jaccard)
            shared[other] = 0
        start = train_ends[i]
    return best


def kmer_sets(data: LabelledSequences, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct canonical k-mers of each sequence, concatenated, and where each sequence ends.

    A canonical k-mer is the lesser of a k-mer and its reverse complement, as numbers in base 4;
    k-mers with N are left out. int64 [total], int64 [N]; k at most 31.
    """
    words = np.empty(len(data.codes), np.int64)
    ends = np.empty(len(data), np.int64)
    total = _canonical_sets(data.codes, data.offsets, k, words, ends)
    return words[:total], ends


@kernel
def _roll(
    forward: np.int64, reverse: np.int64, code: np.int64, k: int
) -> tuple[np.int64, np.int64]:
    """A k-mer and its reverse complement, one base further."""
    mask = (np.int64(1) << np.int64(2 * k)) - 1
    return (forward << 2 | code) & mask, reverse >> 2 | (code ^ 1) << np.int64(2 * (k - 1))


@kernel
def _canonical_sets(
    codes: np.ndarray, offsets: np.ndarray, k: int, words: np.ndarray, ends: np.ndarray
) -> int:
    """Fill in the sorted distinct k-mers of each sequence and where they end; count them."""
    filled = 0
    for i in range(len(offsets) - 1):
        begin = filled
        forward, reverse, known = np.int64(0), np.int64(0), 0
        for position in range(offsets[i], offsets[i + 1]):
            code = np.int64(codes[position])
            if code > 3:
                known = 0
                continue
            forward, reverse = _roll(forward, reverse, code, k)
            known += 1
            if known >= k:
                words[filled] = min(forward, reverse)
                filled += 1
        words[begin:filled].sort()
        unique_end = begin
        for j in range(begin, filled):
            if j == begin or words[j] != words[j - 1]:
                words[unique_end] = words[j]  # never ahead of what is read
                unique_end += 1
        filled = unique_end
        ends[i] = filled
    return filled


def containment(codes: np.ndarray, spans: Spans, test: LabelledSequences) -> np.ndarray:
    """float32 [N]: the fraction of each sequence's k-mers that are in the spans, on either strand.

    Parameters
    ----------
    codes : uint8, `Genome.codes`
    spans : of the genome, for instance those that a model was pretrained on
    test : sequences to look for; k is 24, or their median length where that is less

    Returns
    -------
    1.0 for a sequence within the spans; nan for one without a k-mer (shorter, or all N)
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
def _slot(word: np.int64, slots: int) -> np.int64:
    """Where to look for a k-mer first: Fibonacci hashing, `slots` a power of two."""
    mixed = np.uint64(word) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed >> np.uint64(32)) & np.uint64(slots - 1))


@kernel
def _hash_table(words: np.ndarray, slots: int) -> np.ndarray:
    """int32 [slots]: number of the k-mer in a slot, or -1."""
    table = np.full(slots, -1, np.int32)
    for i in range(len(words)):
        at = _slot(words[i], slots)
        while table[at] >= 0:
            at = (at + 1) & (slots - 1)
        table[at] = i
    return table


@kernel
def _mark_found(
    codes: np.ndarray, k: int, words: np.ndarray, table: np.ndarray, found: np.ndarray
) -> None:
    """Set `found` to 1 for the k-mers that the codes have, on either strand."""
    slots = len(table)
    forward, reverse, known = np.int64(0), np.int64(0), 0
    for position in range(len(codes)):
        code = np.int64(codes[position])
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
