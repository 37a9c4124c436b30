"""Pointwise mutual information of k-mers: how much more often a k-mer occurs than its parts imply.

A k-mer of high PMI is a collocation. A model predicts one of its bases from the others; masked as
a whole it is hard. `rank` orders the k-mers by PMI, 1 = the hardest = the first to be masked.

Definitions, for f(w) = count of w, N_k = number of k-mers, p(w) = f(w) / N_k:

exact      PMI(w) = min over all segmentations of w into two or more segments of
           ln( p(w) / product of p(segment) )        (Levine et al. 2021; Roy et al. 2023)
published  the same over segmentations into segments of 1 or 2 bases only, with every probability
           halved, which reproduces the table that the GeneMask authors released

NPMI(w) = PMI(w) * ln f(w) / (ln f(w) + ln c); a k-mer with f(w) < c has no score and ranks last.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cmgems.difficulty.table import MAX_K, MIN_COUNT, MIN_K, PmiTable, rank_scores
from cmgems.errors import UserError
from cmgems.genome.genome import Genome
from cmgems.utils.progress import progress_bar

if TYPE_CHECKING:
    from cmgems.difficulty.counts import KmerCounts

DEFINITIONS = ("exact", "published")


def compute_pmi_table(
    genome: Genome,
    k: int,
    definition: str = "exact",
    min_count: int = MIN_COUNT,
    skip_repeats: bool = False,
    both_strands: bool = False,
) -> PmiTable:
    """The PMI table of a genome; its counts, which take most of the time, stay in its store.

    With `skip_repeats` k-mers are counted outside repeats alone (`cmgems.difficulty.repeats`), with
    `both_strands` in the genome and its reverse complement together.
    """
    # heavy (numba), and not needed for a table from a file
    from cmgems.difficulty.genome_counts import count_genome_kmers, count_outside_repeats

    check_settings(k, definition, min_count)
    counts = count_outside_repeats(genome, k) if skip_repeats else count_genome_kmers(genome, k)
    counts = counts.pooled() if both_strands else counts
    table = pmi_table_from_counts(counts, definition, min_count)
    return replace(table, skips_repeats=True) if skip_repeats else table


def check_settings(k: int, definition: str, min_count: int) -> None:
    """Refuse settings that no table can have."""
    if not MIN_K <= k <= MAX_K:
        raise UserError(f"k is {k}; PMI wants k from {MIN_K} to {MAX_K}")
    if definition not in DEFINITIONS:
        raise UserError(f"PMI definition {definition!r}; wanted: {' or '.join(DEFINITIONS)}")
    if min_count < 2:
        raise UserError(f"the minimal count is {min_count}; wanted: 2 or more")


def pmi_table_from_counts(
    counts: "KmerCounts", definition: str = "exact", min_count: int = MIN_COUNT
) -> PmiTable:
    """The table of the longest k-mers in counts of words of 1, 2, ... k bases."""
    check_settings(counts.k, definition, min_count)
    f = counts.tables[-1]
    longest = _max_segment(counts.k, definition)
    splits = sum(4**n * min(n - 1, longest) for n in range(2, counts.k + 1))
    with progress_bar(splits + len(f), "computing PMI", " words") as advance:
        pmi = pmi_scores(counts.tables, definition, advance)
        npmi = normalize_pmi(pmi, f, min_count)
        rank = rank_scores(npmi)
        advance(len(f))
    if np.isnan(npmi).all():
        raise UserError(
            f"no {counts.k}-mer occurs {min_count} times (the most frequent {f.max()} times), so"
            " none has a score; wanted: more sequence, a shorter k or a lower minimal count"
        )
    return PmiTable(
        k=counts.k,
        definition=definition,
        counts=f,
        pmi=np.where(np.isnan(npmi), np.nan, pmi),
        npmi=npmi,
        rank=rank,
        min_count=min_count,
        both_strands=counts.both_strands,
        genome_name="+".join(genome["name"] for genome in counts.genomes),
        genome_sha256="+".join(genome["sha256"] for genome in counts.genomes),
    )


def pmi_scores(
    counts: Sequence[np.ndarray], definition: str, advance: Callable[[int], object] = lambda n: None
) -> np.ndarray:
    """PMI of the longest k-mers.

    Parameters
    ----------
    counts : int64 [4], [16], ... [4**k]: counts of the words of 1, 2, ... k bases
    definition : exact or published
    advance : called with the number of words that were split, once per length of a last segment

    Returns
    -------
    float64 [4**k], nats; nan or infinite where a k-mer or a segment of it does not occur
    """
    k = len(counts)
    halved = 2.0 if definition == "published" else 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        log_p = [np.log(c / (halved * c.sum())) for c in counts]
        longest = _max_segment(k, definition)
        # best[n - 1]: the highest log probability of each word of n bases in one or more segments.
        # The last segment is what is split off. The id of a word is (id of its head) * 4**m + (id
        # of its last m bases), so an outer sum runs over all words in the order of their ids.
        best = [log_p[0]]
        for n in range(2, k + 1):
            segmented, split = np.full(4**n, -np.inf), np.empty(4**n)
            for m in range(1, min(n - 1, longest) + 1):
                np.add.outer(best[n - m - 1], log_p[m - 1], out=split.reshape(-1, 4**m))
                np.maximum(segmented, split, out=segmented)
                advance(4**n)
            best.append(np.maximum(segmented, log_p[n - 1]) if n <= longest else segmented)
        return log_p[-1] - segmented


def _max_segment(k: int, definition: str) -> int:
    """Bases of the longest segment that a segmentation may have."""
    return 2 if definition == "published" else k - 1


def normalize_pmi(pmi: np.ndarray, counts: np.ndarray, min_count: int) -> np.ndarray:
    """NPMI; nan below `min_count`."""
    scored = counts >= min_count
    log_f = np.log(counts, where=scored, out=np.ones(len(counts)))
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = pmi * log_f / (log_f + np.log(min_count))
    return np.where(scored & np.isfinite(scores), scores, np.nan)
