"""Counts of k-mers: exact, threaded, mergeable.

    >>> import numpy as np
    >>> count_kmers(np.array([0, 0, 1, 4, 0], np.uint8), 1).tolist()     # A A T N A
    [3, 1, 0, 0]

A k-mer is an index: its bases as digits in base 4, A T C G = 0 1 2 3, the first base highest,
which is its token id less 5. Windows with N or another IUPAC code, and windows over the end of a
contig, are not counted.
"""

import os
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue

import numpy as np

from cmgems.kmer_kernels import MAX_K, count_starts, fold, shorter_offset, stride_for

_PIECE = 1 << 22  # codes that a thread takes at a time


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class KmerCounts:
    """Counts of all words of 1, 2, ... k bases of one or more genomes."""

    tables: tuple[np.ndarray, ...]  # int64 [4], [16], ... [4**k]
    both_strands: bool = False  # each k-mer pooled with its reverse complement
    genomes: tuple[dict, ...] = field(default=())  # of each: name, sha256, bases

    @property
    def k(self) -> int:
        return len(self.tables)

    def upto(self, k: int) -> "KmerCounts":
        """The counts of the words of at most k bases."""
        return KmerCounts(self.tables[:k], self.both_strands, self.genomes)

    def __add__(self, other: "KmerCounts") -> "KmerCounts":
        if self.k != other.k or self.both_strands != other.both_strands:
            raise ValueError("counts of different k or strands do not add up")
        tables = tuple(a + b for a, b in zip(self.tables, other.tables, strict=True))
        return KmerCounts(tables, self.both_strands, self.genomes + other.genomes)

    def pooled(self) -> "KmerCounts":
        """The counts on both strands: f(w) + f(reverse complement of w), for each w.

        That is the count in the genome and its reverse complement together, so a k-mer that is
        its own reverse complement counts twice.
        """
        if self.both_strands:
            return self
        tables = tuple(t + t[reverse_complements(j)] for j, t in enumerate(self.tables, 1))
        return KmerCounts(tables, True, self.genomes)


def reverse_complements(k: int) -> np.ndarray:
    """int64 [4**k]: the index of the reverse complement of each k-mer."""
    ids = np.arange(4**k)
    reverse = np.zeros(4**k, np.int64)
    for i in range(k):
        reverse |= (ids >> 2 * i & 3 ^ 1) << 2 * (k - 1 - i)  # A T C G = 0 1 2 3: A-T and C-G
    return reverse


def count_kmers(codes: np.ndarray, k: int, *, threads: int | None = None) -> np.ndarray:
    """Count the k-mers of a sequence.

    Parameters
    ----------
    codes : uint8 [n], A T C G = 0 1 2 3, anything else 4
    k : 1 to 12
    threads : None for as many as there are cores

    Returns
    -------
    int64 [4**k], index in base order A T C G, first base highest (token id less 5)
    """
    return count_words(codes, k, threads=threads).tables[-1]


def count_words(
    codes: np.ndarray, k: int, *, threads: int | None = None, advance=lambda n: None
) -> KmerCounts:
    """Count all words of 1, 2, ... k bases of a sequence.

    Parameters as for `count_kmers`; `advance` is called with the number of bases that were taken
    up since the last call.
    """

    def pieces():
        for start in range(0, len(codes), _PIECE):
            yield codes[start : start + _PIECE]
            advance(min(_PIECE, len(codes) - start))

    return count_pieces(pieces(), k, threads=threads)


def pieces_in_use(threads: int) -> int:
    """How many pieces `count_pieces` may still read when the next one is asked for."""
    return 2 * threads


def count_pieces(pieces: Iterable[np.ndarray], k: int, *, threads: int | None = None) -> KmerCounts:
    """Count all words of 1, 2, ... k bases of a sequence that comes in consecutive pieces.

    A piece may be overwritten once `pieces_in_use(threads)` more of them have been asked for.
    The pieces are made on the calling thread, which counts as well while the others are busy.
    """
    if not 1 <= k <= MAX_K:
        raise ValueError(f"k is {k}; wanted: 1 to {MAX_K}")
    threads = threads or cores()
    counter = _Counter(k, threads)
    with ThreadPoolExecutor(max(threads - 1, 1)) as pool:
        work: deque[tuple[int, Future]] = deque()
        try:
            for number, piece in enumerate(pieces):
                counter.join(piece)
                while work and (work[0][1].done() or number - work[0][0] >= pieces_in_use(threads)):
                    work.popleft()[1].result()
                if len(work) < 2 * (threads - 1):  # one at work and one waiting for each thread
                    work.append((number, pool.submit(counter.add, piece)))
                else:
                    counter.add(piece)
            for _, future in work:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return counter.finish()


class _Counter:
    """Tables for each thread, and the k - 1 codes behind which the next piece goes on."""

    def __init__(self, k: int, threads: int):
        self.k = k
        self._carry = np.empty(0, np.uint8)
        self._edges = _Tables(k, for_short=True)
        self._tables = [_Tables(k) for _ in range(threads)]
        self._free: SimpleQueue = SimpleQueue()
        for tables in self._tables:
            self._free.put(tables)

    def join(self, piece: np.ndarray) -> None:
        """Count the words that begin before this piece and end in it. In order of the pieces."""
        keep = self.k - 1
        self._edges.count(np.concatenate([self._carry, piece[:keep]]))
        last = np.concatenate([self._carry, piece[max(len(piece) - keep, 0) :]])
        self._carry = last[max(len(last) - keep, 0) :]

    def add(self, piece: np.ndarray) -> None:
        """Count the words inside a piece. In any order, on any thread."""
        tables = self._free.get()
        try:
            tables.count(piece)
        finally:
            self._free.put(tables)

    def finish(self) -> KmerCounts:
        self.join(np.full(max(self.k - 1, 1), 4, np.uint8))  # the end is a break
        counts, shorter = self._edges.counts, self._edges.shorter
        for tables in self._tables:
            fold(tables.small, tables.stride, tables.counts)
            counts += tables.counts
            shorter += tables.shorter
        tables = [counts]
        for j in range(self.k - 1, 0, -1):
            # the first j bases of each k-mer, and the words too close to a break to have one
            counts = _without_last_base(counts)
            tables.append(counts + shorter[shorter_offset(j) : shorter_offset(j + 1)])
        return KmerCounts(tuple(reversed(tables)))


class _Tables:
    """What one thread counts into: see `kmer_kernels`."""

    def __init__(self, k: int, for_short: bool = False):
        self.k, self.stride = k, stride_for(k)
        words = 0 if for_short else 4 ** (k + self.stride - 1)
        self.small = np.zeros(words, np.uint8)
        self.counts = np.zeros(4**k, np.int64)
        self.shorter = np.zeros(shorter_offset(k), np.int64)

    def count(self, codes: np.ndarray) -> None:
        count_starts(codes, self.k, self.stride, self.small, self.counts, self.shorter)


def _without_last_base(table: np.ndarray) -> np.ndarray:
    """Counts of the words with their last base cut off."""
    a, t, c, g = table.reshape(-1, 4).T
    return a + t + c + g  # several times as fast as a sum over an axis of 4
