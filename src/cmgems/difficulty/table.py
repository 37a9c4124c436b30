"""The difficulty of all k-mers as a table, whether it was computed or read from a file."""

from dataclasses import dataclass, field

import numpy as np

from cmgems.genome.alphabet import BASES

MIN_K, MAX_K = 2, 12
MIN_COUNT = 101


@dataclass(frozen=True)
class PmiTable:
    """Counts and difficulty of all 4**k k-mers; index = k-mer in base 4, A T C G = 0 1 2 3."""

    k: int
    definition: str  # exact, published, or "foreign" for a table from elsewhere
    counts: np.ndarray  # int64 [4**k]; -1 where a foreign table has no counts
    pmi: np.ndarray  # float64 [4**k], nats; nan where there is no score
    npmi: np.ndarray  # float64 [4**k], nats; nan where there is no score
    rank: np.ndarray  # int32 [4**k], a permutation of 1..4**k; 1 = highest NPMI
    min_count: int = MIN_COUNT
    both_strands: bool = False  # counted on both strands
    genome_name: str = ""
    genome_sha256: str = ""
    notes: dict[str, str] = field(default_factory=dict)  # further lines of the file's header
    skips_repeats: bool = False  # counted outside repeats alone


def rank_scores(scores: np.ndarray) -> np.ndarray:
    """int32, 1 = highest score; ties by k-mer id; nan last."""
    order = np.argsort(-scores, kind="stable")
    rank = np.empty(len(scores), np.int32)
    rank[order] = np.arange(1, len(scores) + 1, dtype=np.int32)
    return rank


def decode_kmers(ids: np.ndarray, k: int) -> np.ndarray:
    """The k-mers with these ids, as bytes, S{k} [n]."""
    letters = np.empty((len(ids), k), np.uint8)
    bases = np.frombuffer(BASES.encode(), np.uint8)
    for i in range(k):
        letters[:, i] = bases[ids >> 2 * (k - 1 - i) & 3]
    return letters.view(f"S{k}").ravel()


def all_kmers(k: int) -> np.ndarray:
    """All k-mers in the order of their ids, as bytes, S{k} [4**k]."""
    return decode_kmers(np.arange(4**k), k)
