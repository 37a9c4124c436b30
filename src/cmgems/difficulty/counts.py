"""Counts of k-mers: exact, threaded, mergeable.

    >>> import numpy as np
    >>> count_kmers(np.array([0, 0, 1, 4, 0], np.uint8), 1).tolist()     # A A T N A
    [3, 1, 0, 0]

A k-mer is an index: its bases as digits in base 4, A T C G = 0 1 2 3, the first base highest,
which is its token id less 5. Windows with N or another IUPAC code, and windows across the end of a
contig, are not counted.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np

from cmgems.difficulty.count_kernels import MAX_K, count_starts, fold_words, shorter_offset
from cmgems.utils.cores import available_cores

_CHUNK = 1 << 22  # codes that a thread counts at a time


class CountedGenome(TypedDict):
    """A genome whose k-mers were counted."""

    name: str
    sha256: str
    bases: int


@dataclass(frozen=True)
class KmerCounts:
    """Counts of all words of 1, 2, ... k bases of one or more genomes."""

    tables: tuple[np.ndarray, ...]  # int64 [4], [16], ... [4**k]
    both_strands: bool = False  # each k-mer pooled with its reverse complement
    genomes: tuple[CountedGenome, ...] = field(default=())

    @property
    def k(self) -> int:
        return len(self.tables)

    def up_to(self, k: int) -> "KmerCounts":
        """The counts of the words of at most k bases."""
        return KmerCounts(self.tables[:k], self.both_strands, self.genomes)

    def __add__(self, other: "KmerCounts") -> "KmerCounts":
        if self.k != other.k or self.both_strands != other.both_strands:
            raise ValueError("counts of different k or strands do not add up")
        tables = tuple(a + b for a, b in zip(self.tables, other.tables, strict=True))
        return KmerCounts(tables, self.both_strands, self.genomes + other.genomes)

    def pooled(self) -> "KmerCounts":
        """The counts on both strands: f(w) + f(reverse complement of w) per word w.

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
    threads : None for one per core

    Returns
    -------
    int64 [4**k], index in base order A T C G, first base highest (token id less 5)
    """
    return count_words(codes, k, threads=threads).tables[-1]


def count_words(
    codes: np.ndarray,
    k: int,
    *,
    threads: int | None = None,
    advance: Callable[[int], object] = lambda n: None,
) -> KmerCounts:
    """Count all words of 1, 2, ... k bases of a sequence.

    Parameters as for `count_kmers`; `advance` is called with the number of bases that threads
    began to count since the last call.
    """

    def chunks() -> Iterator[np.ndarray]:
        for start in range(0, len(codes), _CHUNK):
            yield codes[start : start + _CHUNK]
            advance(min(_CHUNK, len(codes) - start))

    return count_chunks(chunks(), k, threads=threads)


def count_chunks(chunks: Iterable[np.ndarray], k: int, *, threads: int | None = None) -> KmerCounts:
    """Count all words of 1, 2, ... k bases of a sequence that comes in consecutive chunks.

    Each thread asks for the next chunk, counts it and asks again. A chunk is made on the thread
    that asks for it, one at a time, and may be overwritten when that thread asks for the next.
    """
    if not 1 <= k <= MAX_K:
        raise ValueError(f"k is {k}; wanted: 1 to {MAX_K}")
    counter = _Counter(chunks, k)
    helpers = (threads or available_cores()) - 1
    with ThreadPoolExecutor(max(helpers, 1)) as pool:
        try:
            futures = [pool.submit(counter.work) for _ in range(helpers)]
            tables = counter.work() or _Tables(k)
            counter.finish(tables)
            per_thread = [tables, *filter(None, (future.result() for future in futures))]
        except BaseException:
            counter.stopped = True
            raise
    return _merge(per_thread)


class _Counter:
    """Gives each chunk to one thread, and counts the words across the cuts."""

    def __init__(self, chunks: Iterable[np.ndarray], k: int) -> None:
        self.stopped = False
        self._chunks, self._k = iter(chunks), k
        self._lock = threading.Lock()
        self._carry = np.empty(0, np.uint8)  # the last k - 1 codes before the next chunk

    def work(self) -> "_Tables | None":
        """Count chunks until there are no more; None if there was none for this thread."""
        tables = None
        while not self.stopped:
            with self._lock:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                tables = tables or _Tables(self._k)
                self._count_across_cut(chunk, tables)
            tables.count(chunk)
        if tables:
            tables.fold()
        return tables

    def finish(self, tables: "_Tables") -> None:
        """Count the last words, once there are no more chunks."""
        self._count_across_cut(np.full(self._k, 4, np.uint8), tables)  # the end is a break

    def _count_across_cut(self, chunk: np.ndarray, tables: "_Tables") -> None:
        """Count the words that begin before this chunk and end in it."""
        # so few codes are counted in `counts` directly: this may follow `fold_words`
        overlap = self._k - 1
        tables.count(np.concatenate([self._carry, chunk[:overlap]]))
        last = np.concatenate([self._carry, chunk[max(len(chunk) - overlap, 0) :]])
        self._carry = last[max(len(last) - overlap, 0) :]


class _Tables:
    """The tables of one thread: see `cmgems.difficulty.count_kernels`."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.words = np.zeros(4 ** (k + 1), np.uint8)
        self.counts = np.zeros(4**k, np.int64)
        self.shorter = np.zeros(shorter_offset(k), np.int64)

    def count(self, codes: np.ndarray) -> None:
        count_starts(codes, self.k, self.words, self.counts, self.shorter)

    def fold(self) -> None:
        """Complete `counts`; to be called once, at the end."""
        fold_words(self.words, self.counts)


def _merge(per_thread: list[_Tables]) -> KmerCounts:
    """The counts of all threads; those of the shorter words follow from the longest."""
    counts, shorter = per_thread[0].counts, per_thread[0].shorter
    for tables in per_thread[1:]:
        counts += tables.counts
        shorter += tables.shorter
    by_length = [counts]
    for j in range(per_thread[0].k - 1, 0, -1):
        # the first j bases of each k-mer, and the words too close to a break for a k-mer
        counts = _without_last_base(counts)
        by_length.append(counts + shorter[shorter_offset(j) : shorter_offset(j + 1)])
    return KmerCounts(tuple(reversed(by_length)))


def _without_last_base(table: np.ndarray) -> np.ndarray:
    """Counts of the words with their last base cut off."""
    a, t, c, g = table.reshape(-1, 4).T
    return a + t + c + g  # several times as fast as a sum over an axis of 4
