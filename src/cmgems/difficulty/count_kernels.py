"""Compiled kernels that count k-mers in base codes.

Contract
--------
codes : uint8 [n], A T C G = 0 1 2 3, anything else breaks the sequence
words : uint8 [4**(k + 1)], counts of words of k + 1 bases, modulo 256: carries go to `counts`
counts : int64 [4**k], counts of k-mers; complete once `fold_words` has added what is in `words`
shorter : int64 [(4**k - 4) / 3], counts of words of 1, 2, ... k - 1 bases, table after table

Why it is fast: four bases are packed per byte, and words are cut from 32 bits by a shift, which
the compiler turns into vector instructions; what remains is one increment per word. Words are one
base longer than k and begin at every second base, so that there are half as many: a word stands
for both k-mers in it. Counters of one byte keep their table small; where it is larger than a cache
of one core all the same (k of 10 and more), the cell of a word is prefetched long before its
increment. The carry, once in 256 increments, goes to `counts`, which is far away in memory: carries
are collected and added together, so that their cache misses overlap. Runs of bases are cut into
blocks whose packed bases fit in the first-level cache.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from cmgems.utils.kernels import intrinsic, kernel

MAX_K = 12
_BLOCK = 1 << 13  # groups of four bases whose 32 bits fit in the first-level cache
_AHEAD = 128  # groups between the prefetch of a cell and its increment; 64 to 256 do as well
_FAR = 1 << 20  # a larger table does not fit in the second-level cache of a core
_TESTED = 256  # codes that are tested together for a break
SHORT = 64  # shorter runs are counted without `words`


def shorter_offset(k: int) -> int:
    """Where the table of the words of k bases begins in `shorter`."""
    return (4**k - 4) // 3


@kernel
def _pack(run: np.ndarray, packed: np.ndarray, groups: int) -> None:
    for g in range(groups):
        packed[g] = run[4 * g] << 6 | run[4 * g + 1] << 4 | run[4 * g + 2] << 2 | run[4 * g + 3]


@kernel
def _sixteen_bases(packed: np.ndarray, sixteen: np.ndarray, groups: int) -> None:
    """Fill sixteen[g] with the 16 bases from base 4 g on, first base highest."""
    for g in range(groups):
        sixteen[g] = (
            np.uint32(packed[g]) << np.uint32(24)
            | np.uint32(packed[g + 1]) << np.uint32(16)
            | np.uint32(packed[g + 2]) << np.uint32(8)
            | np.uint32(packed[g + 3])
        )


@intrinsic
def _prefetch(
    typing_context: Any, array: types.Type, index: types.Type
) -> tuple[Any, Callable[..., Any]]:
    """Prefetch array[index] into the cache."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        data = context.make_array(signature.args[0])(context, builder, arguments[0])
        cell = builder.bitcast(builder.gep(data.data, [arguments[1]]), byte)
        prefetch_type = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], prefetch_type)
        # to be read, to be kept in all caches, as data
        builder.call(prefetch, [cell, *(ir.Constant(number, value) for value in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, index), codegen


@kernel
def _add_words(
    sixteen: np.ndarray,
    groups: int,
    k: int,
    words: np.ndarray,
    counts: np.ndarray,
    carries: np.ndarray,
) -> None:
    """Count the words that begin at the first and at the third base of each group."""
    mask = np.uint32((1 << 2 * (k + 1)) - 1)
    shifts = np.uint32(32 - 2 * (k + 1)), np.uint32(32 - 2 * (k + 3))
    far = len(words) > _FAR
    num_carries = 0
    for g in range(groups):
        for shift in shifts:
            if far:  # after the last group, `sixteen` holds older values: harmless
                _prefetch(words, np.uint64(sixteen[g + _AHEAD] >> shift & mask))
            word = np.uint64(sixteen[g] >> shift & mask)
            count = np.uint8(words[word] + np.uint8(1))
            words[word] = count
            if count == 0:
                carries[num_carries] = word
                num_carries += 1
    for i in range(num_carries):
        counts[carries[i] >> 2] += 256
        counts[carries[i] & (len(counts) - 1)] += 256


@kernel
def fold_words(words: np.ndarray, counts: np.ndarray) -> None:
    """Add the counts of the words to those of the two k-mers in each."""
    n = len(counts)
    for kmer in range(n):
        for base in range(4):
            counts[kmer] += np.int64(words[4 * kmer + base]) + np.int64(words[base * n + kmer])


@kernel
def _add_kmers(run: np.ndarray, k: int, counts: np.ndarray) -> None:
    """Count the k-mers of a run of bases, one by one."""
    word = np.int64(0)
    for i in range(len(run)):
        word = (word << 2 | np.int64(run[i])) & (len(counts) - 1)
        if i >= k - 1:
            counts[word] += 1


@kernel
def _add_shorter(run: np.ndarray, first: int, last: int, shorter: np.ndarray) -> None:
    """Count each word that begins in run[first:last], of 1, 2, ... bases up to the end of run."""
    for start in range(first, last):
        word = np.int64(0)
        for i in range(start, len(run)):
            word = word << 2 | np.int64(run[i])
            shorter[((1 << 2 * (i - start + 1)) - 4) // 3 + word] += 1


@kernel
def _any_break(codes: np.ndarray) -> np.bool:
    bits = np.uint8(0)
    for i in range(len(codes)):
        bits |= codes[i]
    return bits > 3


@kernel
def _only_breaks(codes: np.ndarray) -> np.bool:
    least = np.uint8(255)
    for i in range(len(codes)):
        least = min(least, codes[i])
    return least > 3


@kernel
def _next_run(codes: np.ndarray, start: int) -> tuple[int, int]:
    """The two ends of the next run of bases at or after `start`."""
    n = len(codes)
    while start + _TESTED <= n and _only_breaks(codes[start : start + _TESTED]):
        start += _TESTED
    while start < n and codes[start] > 3:
        start += 1
    end = start
    while end + _TESTED <= n and not _any_break(codes[end : end + _TESTED]):
        end += _TESTED
    while end < n and codes[end] < 4:
        end += 1
    return start, end


@kernel
def _count_run(
    run: np.ndarray,
    k: int,
    words: np.ndarray,
    counts: np.ndarray,
    packed: np.ndarray,
    sixteen: np.ndarray,
    carries: np.ndarray,
) -> None:
    """Count the k-mers of a run of bases."""
    # groups with 16 bases from their first base on
    groups = (len(run) - 12) // 4 if len(run) >= SHORT else 0
    for first in range(0, groups, _BLOCK):
        size = min(_BLOCK, groups - first)
        _pack(run[4 * first :], packed, size + 3)
        _sixteen_bases(packed, sixteen, size)
        _add_words(sixteen, size, k, words, counts, carries)
    _add_kmers(run[4 * groups :], k, counts)


@kernel
def count_starts(
    codes: np.ndarray, k: int, words: np.ndarray, counts: np.ndarray, shorter: np.ndarray
) -> None:
    """Count the words that begin in codes[: n - k + 1], where all k codes are known.

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
