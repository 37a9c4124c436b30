"""Counts of k-mers: exact, threaded, mergeable.

    >>> import numpy as np
    >>> count_kmers(np.array([0, 0, 1, 4, 0], np.uint8), 1).tolist()     # A A T N A
    [3, 1, 0, 0]

A k-mer is an index: its bases as digits in base 4, A T C G = 0 1 2 3, the first base highest,
which is its token id less 5. Windows with N or another IUPAC code, and windows over the end of a
contig, are not counted.
"""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from cmgems.difficulty.count_kernels import MAX_K, count_starts, fold_words, shorter_offset
from cmgems.utils.cores import available_cores

_PIECE = 1 << 22  # codes that a thread takes at a time


@dataclass(frozen=True)
class KmerCounts:
    """Counts of all words of 1, 2, ... k bases of one or more genomes."""

    tables: tuple[np.ndarray, ...]  # int64 [4], [16], ... [4**k]
    both_strands: bool = False  # each k-mer pooled with its reverse complement
    genomes: tuple[dict, ...] = field(default=())  # of each: name, sha256, bases

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

    return count_chunks(pieces(), k, threads=threads)


def count_chunks(pieces: Iterable[np.ndarray], k: int, *, threads: int | None = None) -> KmerCounts:
    """Count all words of 1, 2, ... k bases of a sequence that comes in consecutive pieces.

    Each thread takes the next piece, counts it and comes back for another. A piece is made on the
    thread that takes it, one at a time, and may be overwritten when that thread takes the next.
    """
    if not 1 <= k <= MAX_K:
        raise ValueError(f"k is {k}; wanted: 1 to {MAX_K}")
    counter = _Counter(pieces, k)
    helpers = (threads or available_cores()) - 1
    with ThreadPoolExecutor(max(helpers, 1)) as pool:
        try:
            others = [pool.submit(counter.work) for _ in range(helpers)]
            first = counter.work() or _Tables(k)
            counter.end(first)
            parts = [first, *filter(None, (other.result() for other in others))]
        except BaseException:
            counter.stopped = True
            raise
    return _together(parts)


class _Counter:
    """Hands out pieces, each to one thread; counts the words that lie on their cuts."""

    def __init__(self, pieces: Iterable[np.ndarray], k: int):
        self.stopped = False
        self._pieces, self._k = iter(pieces), k
        self._turn = threading.Lock()
        self._carry = np.empty(0, np.uint8)  # the k - 1 codes behind which the next piece goes on

    def work(self) -> "_Tables | None":
        """Count pieces until there are no more; None if there was none for this thread."""
        tables = None
        while not self.stopped:
            with self._turn:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                tables = tables or _Tables(self._k)
                self._join(piece, tables)
            tables.count(piece)
        if tables:
            tables.fold()
        return tables

    def end(self, tables: "_Tables") -> None:
        """Count the words that nothing follows. Once there are no more pieces."""
        self._join(np.full(self._k, 4, np.uint8), tables)  # the end is a break

    def _join(self, piece: np.ndarray, tables: "_Tables") -> None:
        """Count the words that begin before this piece and end in it."""
        # these few codes go straight to `counts`, so it may come behind `fold_words`, too
        keep = self._k - 1
        tables.count(np.concatenate([self._carry, piece[:keep]]))
        last = np.concatenate([self._carry, piece[max(len(piece) - keep, 0) :]])
        self._carry = last[max(len(last) - keep, 0) :]


class _Tables:
    """What one thread counts into: see `kmer_kernels`."""

    def __init__(self, k: int):
        self.k = k
        self.words = np.zeros(4 ** (k + 1), np.uint8)
        self.counts = np.zeros(4**k, np.int64)
        self.shorter = np.zeros(shorter_offset(k), np.int64)

    def count(self, codes: np.ndarray) -> None:
        count_starts(codes, self.k, self.words, self.counts, self.shorter)

    def fold(self) -> None:
        """Have all that was counted in `counts`. Once, at the end."""
        fold_words(self.words, self.counts)


def _together(parts: list[_Tables]) -> KmerCounts:
    """The counts of all threads; those of the shorter words follow from the longest."""
    counts, shorter = parts[0].counts, parts[0].shorter
    for part in parts[1:]:
        counts += part.counts
        shorter += part.shorter
    tables = [counts]
    for j in range(parts[0].k - 1, 0, -1):
        # the first j bases of each k-mer, and the words too close to a break to have one
        counts = _without_last_base(counts)
        tables.append(counts + shorter[shorter_offset(j) : shorter_offset(j + 1)])
    return KmerCounts(tuple(reversed(tables)))


def _without_last_base(table: np.ndarray) -> np.ndarray:
    """Counts of the words with their last base cut off."""
    a, t, c, g = table.reshape(-1, 4).T
    return a + t + c + g  # several times as fast as a sum over an axis of 4
