"""How hard a k-mer is for counting: the bits that its bases cost a Markov model.

A base costs -log2 of its probability after the bases before it, by the best interpolated Markov
model of the genome (`cmgems.difficulty.markov`), with the base itself left out of the counts: a
word that occurs once does not predict itself.

The difficulty of a k-mer is the mean of that over its k
bases and over all places of the genome at which it stands behind enough known bases.
"""

import contextlib
import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cmgems.difficulty.markov import MAX_ORDER, count_stretches, fit, longest_word
from cmgems.genome.genome import Genome
from cmgems.genome.spans import Spans, unambiguous_spans
from cmgems.utils.cores import available_cores
from cmgems.utils.files import atomic_write
from cmgems.utils.kernels import kernel

VERSION = 1  # to be raised whenever the same genome gets other bits
UNIT = 1 << 16  # bits are summed as integers in units of 1 / UNIT: exact in any order
_CHUNK = 1 << 22  # bases that a thread adds up at a time


def genome_markov_bits(genome: Genome, k: int) -> np.ndarray:
    """float64 [4**k]: `markov_bits` of a genome, cached in its store if it can be written to."""
    source = hashlib.sha256(f"{genome.sha256} {MAX_ORDER} {VERSION}".encode()).hexdigest()
    path = genome.path / "markov" / f"k{k}-{source[:16]}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):  # not there, or damaged: compute
        cached = np.load(path, allow_pickle=False)
        if cached.shape == (4**k,):
            return cached
    bits = markov_bits(genome.codes, unambiguous_spans(genome.codes), k)
    with contextlib.suppress(OSError):  # a store that we may not write to
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path, "wb") as handle:
            np.save(handle, bits)
    return bits


def markov_bits(codes: np.ndarray, spans: Spans, k: int) -> np.ndarray:
    """float64 [4**k]: bits per base of each k-mer of a sequence; the mean of all for one that does
    not occur.

    Parameters
    ----------
    codes : uint8 [n], A T C G = 0 1 2 3, anything else 4
    spans : the stretches of known bases to count
    k : int
    """
    model = fit(count_stretches(codes, [spans], longest_word(spans.bases)))
    cost = -np.log2(np.maximum(model.left_out, 2.0**-30))  # what occurs costs less than 30 bits
    cost_W = np.rint(cost * UNIT).astype(np.int32)
    reach = model.order + k - 1  # bases before the last one of a k-mer that its bits depend on
    chunks = [
        (max(start, first - reach), min(first + _CHUNK, end))
        for start, end in zip(spans.start.tolist(), spans.end.tolist(), strict=True)
        for first in range(start, end, _CHUNK)
    ]

    def add_up(part: list[tuple[int, int]]) -> np.ndarray:
        sums_V2 = np.zeros((4**k, 2), np.int64)
        for first, end in part:
            _add_up(np.asarray(codes[first:end]), cost_W, model.order, k, sums_V2)
        return sums_V2

    threads = available_cores()
    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(add_up, [chunks[i::threads] for i in range(threads)])
        total_V, count_V = np.sum(list(parts), axis=0).T
    mean = total_V.sum() / max(int(count_V.sum()), 1)
    return np.where(count_V, total_V / np.maximum(count_V, 1), mean) / (UNIT * k)


@kernel
def _add_up(run: np.ndarray, cost_W: np.ndarray, order: int, k: int, sums_V2: np.ndarray) -> None:
    """Add the bits of each k-mer of a stretch, and that it was found, if its first base stands
    behind `order` others."""
    last_k = np.zeros(k, np.int64)  # bits of the last k bases, base i at i % k
    word, in_kmer = np.int64(0), np.int64(0)
    for i in range(len(run)):
        word = word << 2 | np.int64(run[i])
        in_kmer += -last_k[i % k]
        last_k[i % k] = cost_W[word & (len(cost_W) - 1)] if i >= order else 0
        in_kmer += last_k[i % k]
        if i >= order + k - 1:
            kmer = word & (len(sums_V2) - 1)
            sums_V2[kmer, 0] += in_kmer
            sums_V2[kmer, 1] += 1
