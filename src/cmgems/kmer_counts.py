"""Counts of k-mers in base codes: exact, threaded, in compiled code."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit

MAX_K = 12


@njit(nogil=True, cache=True)
def _count(codes, start, stop, k, table):
    """Add the k-mers that begin in codes[start:stop] to the table."""
    mask = np.uint64(4**k - 1)
    last = min(stop + k - 1, len(codes))
    word = np.uint64(0)
    bases = 0
    for i in range(start, last):
        code = codes[i]
        if code < 4:
            word = ((word << np.uint64(2)) | np.uint64(code)) & mask
            bases += 1
            if bases >= k:
                table[word] += 1
        else:
            bases = 0


def count_kmers(codes: np.ndarray, k: int, *, threads: int | None = None) -> np.ndarray:
    """Count the k-mers of a sequence; those with a code 4 in them are not counted.

    Parameters
    ----------
    codes : uint8, A T C G = 0 1 2 3, anything else 4
    k : 1 to 12
    threads : None for as many as there are cores

    Returns
    -------
    int64 [4**k]
        Index: the k-mer as a number in base 4 with A T C G = 0 1 2 3, first base highest,
        which is its token id less 5.
    """
    if not 1 <= k <= MAX_K:
        raise ValueError(f"k is {k}; wanted: 1 to {MAX_K}")
    threads = threads or len(os.sched_getaffinity(0))
    cuts = np.linspace(0, len(codes), threads + 1).astype(np.int64)
    tables = np.zeros((threads, 4**k), np.int64)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(_count, [codes] * threads, cuts[:-1], cuts[1:], [k] * threads, tables))
    return tables.sum(axis=0)
