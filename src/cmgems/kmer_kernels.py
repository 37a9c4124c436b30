"""Compiled kernels that count k-mers in base codes.

Contract
--------
codes : uint8 [n], A T C G = 0 1 2 3, anything else breaks the sequence
small : uint8 [4**L], counts of words of L bases since the last carry
counts : int64 [4**k], counts of k-mers; complete once `fold` has added what is in `small`
shorter : int64 [(4**k - 4) / 3], counts of words of 1, 2, ... k - 1 bases, table after table

How it gets fast: four bases are packed in a byte, and words are cut from 32 bits by a shift, which
the compiler turns into vector instructions; what remains is one increment a word. Words are one
base longer than k and taken at every second base, so that there are half as many: a word stands
for both k-mers in it. Counters of one byte keep their table in the cache; the carry, once in 256
increments, goes to `counts`, which is far away: carries are put aside and added together, so that
their cache misses overlap. Runs of bases are cut in blocks whose words fit in the first cache.
"""

import numpy as np

from cmgems.compiled import kernel

MAX_K = 12
_BLOCK = 1 << 13  # groups of four bases whose words lie in the first cache
_LOOK = 256  # codes that are tested together for a break
SHORT = 64  # runs of less are counted without `small`


def stride_for(k: int) -> int:
    """Bases from word to word: 2 while the table of longer words still fits in the cache."""
    return 2 if k <= 9 else 1


def shorter_offset(k: int) -> int:
    """Where the table of the words of k bases begins in `shorter`."""
    return (4**k - 4) // 3


@kernel
def _pack(run, packed, groups):
    for g in range(groups):
        packed[g] = run[4 * g] << 6 | run[4 * g + 1] << 4 | run[4 * g + 2] << 2 | run[4 * g + 3]


@kernel
def _sixteen_bases(packed, words, groups):
    """words[g]: the 16 bases from base 4 g on, first base highest."""
    for g in range(groups):
        words[g] = (
            np.uint32(packed[g]) << np.uint32(24)
            | np.uint32(packed[g + 1]) << np.uint32(16)
            | np.uint32(packed[g + 2]) << np.uint32(8)
            | np.uint32(packed[g + 3])
        )


@kernel
def _add_words(words, shift, mask, stride, small, counts, carries):
    carried = 0
    for i in range(len(words)):
        word = np.uint64((words[i] >> shift) & mask)
        count = np.uint8(small[word] + np.uint8(1))
        small[word] = count
        if count == 0:
            carries[carried] = word
            carried += 1
    for i in range(carried):
        _add_to_kmers(carries[i], 256, stride, counts)


@kernel
def _add_to_kmers(word, amount, stride, counts):
    """Add to the k-mers that a word stands for: itself, or its first and its last k bases."""
    if stride == 1:
        counts[word] += amount
    else:
        counts[word >> 2] += amount
        counts[word & (len(counts) - 1)] += amount


@kernel
def fold(small, stride, counts):
    """Add the counts of the words to those of their k-mers."""
    for word in range(len(small)):
        if small[word]:
            _add_to_kmers(word, np.int64(small[word]), stride, counts)


@kernel
def _add_kmers(run, k, counts):
    """Count the k-mers of a stretch of bases, one by one."""
    word = np.int64(0)
    for i in range(len(run)):
        word = (word << 2 | np.int64(run[i])) & (len(counts) - 1)
        if i >= k - 1:
            counts[word] += 1


@kernel
def _add_shorter(run, first, last, shorter):
    """Count each word that begins in run[first:last], of 1, 2, ... bases up to the end of run."""
    for start in range(first, last):
        word = np.int64(0)
        for i in range(start, len(run)):
            word = word << 2 | np.int64(run[i])
            shorter[((1 << 2 * (i - start + 1)) - 4) // 3 + word] += 1


@kernel
def _any_break(codes):
    bits = np.uint8(0)
    for i in range(len(codes)):
        bits |= codes[i]
    return bits > 3


@kernel
def _only_breaks(codes):
    least = np.uint8(255)
    for i in range(len(codes)):
        least = min(least, codes[i])
    return least > 3


@kernel
def _next_run(codes, start):
    """The next stretch of bases at or behind `start`: its two ends."""
    n = len(codes)
    while start + _LOOK <= n and _only_breaks(codes[start : start + _LOOK]):
        start += _LOOK
    while start < n and codes[start] > 3:
        start += 1
    end = start
    while end + _LOOK <= n and not _any_break(codes[end : end + _LOOK]):
        end += _LOOK
    while end < n and codes[end] < 4:
        end += 1
    return start, end


@kernel
def _count_run(run, k, stride, small, counts, packed, words, carries):
    """Count the k-mers of a stretch of bases."""
    length = k + stride - 1
    mask = np.uint32((1 << 2 * length) - 1)
    # groups with 16 bases from their first base on
    groups = (len(run) - 12) // 4 if len(run) >= SHORT else 0
    for first in range(0, groups, _BLOCK):
        here = min(_BLOCK, groups - first)
        _pack(run[4 * first :], packed, here + 3)
        _sixteen_bases(packed, words, here)
        for offset in range(0, 4, stride):
            shift = np.uint32(32 - 2 * (offset + length))
            _add_words(words[:here], shift, mask, stride, small, counts, carries)
    _add_kmers(run[4 * groups :], k, counts)


@kernel
def count_starts(codes, k, stride, small, counts, shorter):
    """Count the words that begin in codes[: n - k + 1], where all k codes are in sight.

    From a start with k bases before the next break its k-mer is counted (the shorter words that
    begin there follow from it); from a start with fewer, each word up to the break, in `shorter`.
    """
    n = len(codes)
    packed = np.empty(_BLOCK + 3, np.uint8)
    words = np.empty(_BLOCK, np.uint32)
    carries = np.empty(_BLOCK, np.uint32)
    end = 0
    while end < n:
        start, end = _next_run(codes, end)
        run = codes[start:end]
        _count_run(run, k, stride, small, counts, packed, words, carries)
        if end < n:
            first = max(len(run) - k + 1, 0)
            last = min(len(run), n - k + 1 - start)
            _add_shorter(run, first, last, shorter)
