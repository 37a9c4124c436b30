"""Where k-mers lie in a genome: in repeats, among soft-masked bases, in CpG islands.

A k-mer lies where its middle base does, the one (k - 1) // 2 behind its first. Repeats are found by
counting (`cmgems.difficulty.repeats`). A base is in a CpG island if it is in a window of 200 known
bases with a G + C content above 0.5 and a ratio of observed to expected CpG above 0.6
(Gardiner-Garden and Frommer, J. Mol. Biol. 1987).

Shapes: V = 4**k k-mers, n bases.
"""

from typing import NamedTuple

import numpy as np

from cmgems.difficulty.repeats import Repeats, genome_repeats
from cmgems.difficulty.table import PmiTable, decode_kmers
from cmgems.genome.alphabet import AMBIGUOUS, BASES
from cmgems.genome.genome import Genome
from cmgems.utils.progress import progress_bar
from cmgems.utils.text_table import text_table

ISLAND = 200  # bases
_CHUNK = 1 << 20  # bases
_NUM_FIRST = 10  # k-mers with a row of their own
_GROUPS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the k-mers with a score, by rank


class KmerPlaces(NamedTuple):
    """Occurrences of each k-mer on the forward strand, int64 [V] each."""

    everywhere: np.ndarray
    in_repeats: np.ndarray
    in_islands: np.ndarray
    soft_masked: np.ndarray | None  # None where the store does not know


def find_kmer_places(genome: Genome, k: int) -> KmerPlaces:
    """Read a genome once, and again where its repeats are not in its cache."""
    repeats = genome_repeats(genome)
    known_case = genome.soft_mask_bits is not None
    totals = np.zeros((4 if known_case else 3, 4**k), np.int64)
    with progress_bar(len(genome.codes), "reading", " b") as advance:
        for start in range(0, len(genome.codes), _CHUNK):
            end = min(start + _CHUNK, len(genome.codes))
            ids, at = _kmers(genome, k, start, end)
            marks = _marks(genome, repeats, start, end, known_case)
            totals[0] += np.bincount(ids, minlength=4**k)
            for row, mark in enumerate(marks, 1):
                totals[row] += np.bincount(ids[mark[at - start]], minlength=4**k)
            advance(end - start)
    return KmerPlaces(totals[0], totals[1], totals[2], totals[3] if known_case else None)


def _kmers(genome: Genome, k: int, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and middle bases of the k-mers whose middle bases are in codes[start:end]."""
    before = (k - 1) // 2
    first, last = max(start - before, 0), min(end - before + k - 1, len(genome.codes))
    codes = np.asarray(genome.codes[first:last], np.int64)
    number = max(len(codes) - k + 1, 0)
    ids, known = np.zeros(number, np.int64), np.ones(number, bool)
    for offset in range(k):
        code = codes[offset : offset + number]
        ids = 4 * ids + (code & 3)
        known &= code < AMBIGUOUS
    return ids[known], first + before + np.flatnonzero(known)


def _marks(
    genome: Genome, repeats: Repeats, start: int, end: int, known_case: bool
) -> list[np.ndarray]:
    """bool [end - start] each: in repeats, in CpG islands, soft-masked."""
    first, last = max(start - ISLAND + 1, 0), min(end + ISLAND - 1, len(genome.codes))
    islands = find_islands(genome.codes[first:last])[start - first : end - first]
    marks = [repeats.holds(start, end - start), islands]
    return [*marks, genome.soft_mask(start, end)] if known_case else marks


def find_islands(codes: np.ndarray) -> np.ndarray:
    """bool [n]: whether each base is in a CpG island; see the head of this module."""
    covered = np.zeros(len(codes) + 1, np.int64)
    if len(codes) >= ISLAND:
        a_c, a_g = codes == BASES.index("C"), codes == BASES.index("G")
        cpg = np.append(a_c[:-1] & a_g[1:], False)
        c, g, unknown = (_in_windows(x, ISLAND) for x in (a_c, a_g, codes >= AMBIGUOUS))
        found = _in_windows(cpg[:-1], ISLAND - 1)  # both bases in the window
        rich = (unknown == 0) & (c + g > ISLAND / 2) & (found * ISLAND > 0.6 * c * g)
        start = np.flatnonzero(rich)
        covered[start] += 1
        covered[start + ISLAND] -= 1
    return covered[:-1].cumsum() > 0


def _in_windows(values: np.ndarray, size: int) -> np.ndarray:
    """int64 [n - size + 1]: how many are true in each window of `size`."""
    total = np.concatenate([[0], values.cumsum(dtype=np.int64)])
    return total[size:] - total[:-size]


def format_places(table: PmiTable, places: KmerPlaces) -> str:
    """Where the k-mers that are masked first lie, one by one, and all of them in groups by rank."""
    order = np.argsort(table.rank)
    scored = int(np.sum(~np.isnan(table.npmi))) or len(order)
    masked = ("soft-masked",) if places.soft_masked is not None else ()
    head = ("rank", "k-mers", "occurrences", "in repeats", "in CpG islands", *masked, "with a CpG")
    first = order[: min(_NUM_FIRST, scored)]
    rows = [
        _row(f"{number}", kmer.decode(), first[number - 1 : number], places, table.k)
        for number, kmer in enumerate(decode_kmers(first, table.k), 1)
    ]
    last = 0
    for fraction in _GROUPS:
        end = round(fraction * scored)
        if end > last:
            label = f"{last + 1:,} to {end:,}"
            rows.append(_row(label, f"{end - last:,}", order[last:end], places, table.k))
        last = end
    rows.append(_row("all", f"{len(order):,}", order, places, table.k))
    return text_table([head, *rows], "<>")


def _row(label: str, name: str, kmers: np.ndarray, places: KmerPlaces, k: int) -> tuple[str, ...]:
    """A group of k-mers: fractions of their occurrences, and of k-mers with a CpG."""
    count = int(places.everywhere[kmers].sum())
    kinds = (places.in_repeats, places.in_islands, places.soft_masked)
    fractions = [x[kmers].sum() / max(count, 1) for x in kinds if x is not None]
    with_cpg = np.mean([b"CG" in kmer for kmer in decode_kmers(kmers, k)])
    return (label, name, f"{count:,}", *(f"{x:.1%}" for x in (*fractions, with_cpg)))
