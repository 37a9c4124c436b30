"""Compiled kernels that count k-mers in base codes.

Contract
--------
codes : uint8 [n], A T C G = 0 1 2 3, anything else breaks the sequence
words : uint8 [4**(k + 1)], counts of words of k + 1 bases since the last carry
counts : int64 [4**k], counts of k-mers; complete once `fold_words` has added what is in `words`
shorter : int64 [(4**k - 4) / 3], counts of words of 1, 2, ... k - 1 bases, table after table

How it gets fast: four bases are packed in a byte, and words are cut from 32 bits by a shift, which
the compiler turns into vector instructions; what remains is one increment a word. Words are one
base longer than k and taken at every second base, so that there are half as many: a word stands
for both k-mers in it. Counters of one byte keep their table small; where it is larger than a cache
of one core all the same (k of 10 and more), the cell of a word is asked for long before its turn.
The carry, once in 256 increments, goes to `counts`, which is far away: carries are put aside and
added together, so that their cache misses overlap. Runs of bases are cut in blocks whose packed
bases fit in the first cache.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from cmgems.utils.kernels import kernel

MAX_K = 12
_BLOCK = 1 << 13  # groups of four bases whose 32 bits lie in the first cache
_AHEAD = 128  # groups between the request for a cell and its increment; 64 to 256 do as well
_FAR = 1 << 20  # a larger table does not lie in the second cache of a core
_LOOK = 256  # codes that are tested together for a break
SHORT = 64  # runs of less are counted without `words`


def shorter_offset(k: int) -> int:
    """Where the table of the words of k bases begins in `shorter`."""
    return (4**k - 4) // 3


@kernel
def _pack(run, packed, groups):
    for g in range(groups):
        packed[g] = run[4 * g] << 6 | run[4 * g + 1] << 4 | run[4 * g + 2] << 2 | run[4 * g + 3]


@kernel
def _sixteen_bases(packed, sixteen, groups):
    """sixteen[g]: the 16 bases from base 4 g on, first base highest."""
    for g in range(groups):
        sixteen[g] = (
            np.uint32(packed[g]) << np.uint32(24)
            | np.uint32(packed[g + 1]) << np.uint32(16)
            | np.uint32(packed[g + 2]) << np.uint32(8)
            | np.uint32(packed[g + 3])
        )


@intrinsic
def _ask_for(typing_context, array, index):
    """Have array[index] brought to the cache, without waiting for it."""

    def codegen(context, builder, signature, arguments):
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        data = context.make_array(signature.args[0])(context, builder, arguments[0])
        cell = builder.bitcast(builder.gep(data.data, [arguments[1]]), byte)
        wanted = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], wanted)
        # to be read, to be kept in all caches, as data
        builder.call(prefetch, [cell, *(ir.Constant(number, value) for value in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, index), codegen


@kernel
def _add_words(sixteen, groups, k, words, counts, carries):
    """Count the words that begin at the first and at the third base of each group."""
    mask = np.uint32((1 << 2 * (k + 1)) - 1)
    shifts = np.uint32(32 - 2 * (k + 1)), np.uint32(32 - 2 * (k + 3))
    far = len(words) > _FAR
    carried = 0
    for g in range(groups):
        for shift in shifts:
            if far:  # behind the last group stands what stood there before
                _ask_for(words, np.uint64(sixteen[g + _AHEAD] >> shift & mask))
            word = np.uint64(sixteen[g] >> shift & mask)
            count = np.uint8(words[word] + np.uint8(1))
            words[word] = count
            if count == 0:
                carries[carried] = word
                carried += 1
    for i in range(carried):
        counts[carries[i] >> 2] += 256
        counts[carries[i] & (len(counts) - 1)] += 256


@kernel
def fold_words(words, counts):
    """Add the counts of the words to those of the two k-mers in each."""
    n = len(counts)
    for kmer in range(n):
        for base in range(4):
            counts[kmer] += np.int64(words[4 * kmer + base]) + np.int64(words[base * n + kmer])


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
def _count_run(run, k, words, counts, packed, sixteen, carries):
    """Count the k-mers of a stretch of bases."""
    # groups with 16 bases from their first base on
    groups = (len(run) - 12) // 4 if len(run) >= SHORT else 0
    for first in range(0, groups, _BLOCK):
        here = min(_BLOCK, groups - first)
        _pack(run[4 * first :], packed, here + 3)
        _sixteen_bases(packed, sixteen, here)
        _add_words(sixteen, here, k, words, counts, carries)
    _add_kmers(run[4 * groups :], k, counts)


@kernel
def count_starts(codes, k, words, counts, shorter):
    """Count the words that begin in codes[: n - k + 1], where all k codes are in sight.

    From a start with k bases before the next break its k-mer is counted (the shorter words that
    begin there follow from it); from a start with fewer, each word up to the break, in `shorter`.
    """
    n = len(codes)
    packed = np.empty(_BLOCK + 3, np.uint8)
    sixteen = np.zeros(_BLOCK + _AHEAD, np.uint32)
    carries = np.empty(2 * _BLOCK, np.uint32)
    end = 0
    while end < n:
        start, end = _next_run(codes, end)
        run = codes[start:end]
        _count_run(run, k, words, counts, packed, sixteen, carries)
        if end < n:
            first = max(len(run) - k + 1, 0)
            last = min(len(run), n - k + 1 - start)
            _add_shorter(run, first, last, shorter)
