"""Pointwise mutual information of k-mers: how much more often a k-mer occurs than its parts say.

A k-mer of high PMI is a collocation. A model predicts one of its bases from the others; masked as
a whole it is hard. `rank` orders the k-mers by it, 1 = the hardest = the first to be masked.

Definitions, for f(w) = count of w, N_k = number of k-mers, p(w) = f(w) / N_k:

exact      PMI(w) = min over all segmentations of w in two or more pieces of
           ln( p(w) / product of p(piece) )          (Levine et al. 2021; Roy et al. 2023)
published  the same over segmentations in pieces of 1 or 2 bases only, with every probability
           halved, which reproduces the table that the GeneMask authors released

NPMI(w) = PMI(w) * ln f(w) / (ln f(w) + ln c); a k-mer with f(w) < c has no score and ranks last.
"""

from dataclasses import dataclass, field

import numpy as np

from cmgems.errors import UserError
from cmgems.genome import Genome

DEFINITIONS = ("exact", "published")
MIN_COUNT = 101
MIN_K, MAX_K = 2, 12


@dataclass(frozen=True)
class PmiTable:
    """Counts and difficulty of all 4**k k-mers; index = k-mer in base 4, A T C G = 0 1 2 3."""

    k: int
    definition: str  # exact, published, or "foreign" for a table from elsewhere
    counts: np.ndarray  # int64 [4**k]; -1 where a foreign table does not say
    pmi: np.ndarray  # float64 [4**k], nats; nan where there is no score
    npmi: np.ndarray  # float64 [4**k], nats; nan where there is no score
    rank: np.ndarray  # int32 [4**k], a permutation of 1..4**k; 1 = highest NPMI
    min_count: int = MIN_COUNT
    genome_name: str = ""
    genome_sha256: str = ""
    provenance: dict = field(default_factory=dict)  # further lines of the header of its file


def table_for(
    genome: Genome, k: int, definition: str = "exact", min_count: int = MIN_COUNT
) -> PmiTable:
    """The PMI table of a genome."""
    from cmgems.kmer_counts import count_kmers

    if not MIN_K <= k <= MAX_K:
        raise UserError(f"k is {k}; PMI wants k from {MIN_K} to {MAX_K}")
    counts = [count_kmers(genome.codes, j) for j in range(1, k + 1)]
    return pmi_table(
        counts, definition, min_count, genome_name=genome.name, genome_sha256=genome.sha256
    )


def pmi_table(counts: list[np.ndarray], definition: str, min_count: int, **provenance) -> PmiTable:
    """The table of the longest k-mers in `counts`, which holds those of length 1, 2, ... k."""
    k = len(counts)
    pmi = pmi_scores(counts, definition)
    npmi = normalised(pmi, counts[-1], min_count)
    pmi = np.where(np.isnan(npmi), np.nan, pmi)
    return PmiTable(
        k, definition, counts[-1], pmi, npmi, ranks(npmi), min_count=min_count, **provenance
    )


def pmi_scores(counts: list[np.ndarray], definition: str) -> np.ndarray:
    """PMI of the longest k-mers.

    Parameters
    ----------
    counts : int64 [4], [16], ... [4**k]: counts of the k-mers of length 1, 2, ... k
    definition : exact or published

    Returns
    -------
    float64 [4**k], nats; nan or infinite where a k-mer or a piece of it does not occur
    """
    if definition not in DEFINITIONS:
        raise UserError(f"PMI definition {definition!r}; wanted: {' or '.join(DEFINITIONS)}")
    k = len(counts)
    halved = 2.0 if definition == "published" else 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        log_p = [np.log(c / (halved * c.sum())) for c in counts]
        # best[n-1]: the highest log probability of a k-mer of length n made of pieces. The last
        # piece is what is split off: the id of a k-mer is (id of its head) * 4**m + (id of its
        # last m bases), so an outer sum runs over all k-mers in the order of their ids.
        longest = 2 if definition == "published" else k
        best: list[np.ndarray] = []
        for n in range(1, k + 1):
            split = [
                np.add.outer(best[n - m - 1], log_p[m - 1]).ravel()
                for m in range(1, min(n - 1, longest) + 1)
            ]
            in_pieces = np.maximum.reduce(split) if split else None
            if n == k:
                return log_p[-1] - in_pieces
            whole = [log_p[n - 1]] if n <= longest else []
            best.append(np.maximum.reduce(whole + ([in_pieces] if split else [])))
    raise AssertionError("k of at least 2 is seen to before")


def normalised(pmi: np.ndarray, counts: np.ndarray, min_count: int) -> np.ndarray:
    """NPMI; nan below `min_count`."""
    scored = counts >= max(min_count, 1)
    log_f = np.log(counts, where=scored, out=np.ones(len(counts)))
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = pmi * log_f / (log_f + np.log(min_count))
    return np.where(scored & np.isfinite(scores), scores, np.nan)


def ranks(scores: np.ndarray) -> np.ndarray:
    """int32, 1 = highest score; ties by k-mer id; nan last."""
    order = np.argsort(-scores, kind="stable")
    rank = np.empty(len(scores), np.int32)
    rank[order] = np.arange(1, len(scores) + 1, dtype=np.int32)
    return rank


def read_table(path, k: int | None = None) -> PmiTable:
    """A PMI table from a file, ours or a TSV or CSV with a score or a rank column."""
    from cmgems.pmi_table import read

    return read(path, k)


def write_table(table: PmiTable, path) -> None:
    """Write a table as tab-separated text, rank 1 first, with its provenance in comment lines."""
    from cmgems.pmi_table import write

    write(table, path)
