"""The difficulty along a sequence, as a bedGraph for a genome browser.

A base has the NPMI of the k-mer around it: the one that begins (k - 1) // 2 bases before it. Bases
without a value (near N or the end of the contig, or whose k-mer has no score) have no line. The
values of a table that has ranks alone are the negative ranks.
"""

from collections.abc import Iterator
from typing import IO

import numpy as np

from cmgems.difficulty.table import PmiTable
from cmgems.errors import UserError
from cmgems.genome.genome import Contig, Genome
from cmgems.genome.region import Region

_CHUNK = 1 << 20  # bases at a time


def base_difficulty(
    genome: Genome, table: PmiTable, contig: Contig, start: int, end: int
) -> np.ndarray:
    """float64 [end - start]: NPMI of the k-mer around each base of contig[start:end]; nan: none."""
    k, before = table.k, (table.k - 1) // 2
    first, last = start - before, end - before + k - 1  # the codes that the k-mers cover
    codes = np.full(last - first, 4, np.int64)
    inside = slice(max(first, 0), min(last, contig.length))
    codes[inside.start - first : inside.stop - first] = genome.codes[
        contig.start + inside.start : contig.start + inside.stop
    ]
    ids = np.zeros(end - start, np.int64)
    ambiguous = np.zeros(end - start, bool)
    for i in range(k):
        code = codes[i : i + end - start]
        ids = 4 * ids + (code & 3)
        ambiguous |= code > 3
    scores = table.npmi if not np.isnan(table.npmi).all() else -table.rank.astype(float)
    return np.where(ambiguous, np.nan, scores[ids])


def write_track(
    genome: Genome, table: PmiTable, region: Region, handle: IO[str], bin_size: int = 1
) -> None:
    """Write a region as bedGraph, in the coordinates that the region was named in.

    A value is the mean over a bin of `bin_size` bases, counted from the start of the region;
    neighboring bins of the same value are joined.
    """
    contig, start, end = region.contig, region.start, region.end
    if bin_size < 1:
        raise UserError(f"the bin has {bin_size} bases; wanted: 1 or more")
    handle.write(
        f'track type=bedGraph name="NPMI k={table.k}" description="difficulty of the {table.k}-mer'
        f' around each base, {table.definition}, {table.genome_name}"\n'
    )
    chunk = max(_CHUNK // bin_size, 1) * bin_size
    for at in range(start, end, chunk):
        stop = min(at + chunk, end)
        values = _bin_means(base_difficulty(genome, table, contig, at, stop), bin_size)
        first, behind = region.offset + at, region.offset + stop
        handle.writelines(_lines(region.contig_name, values, first, behind, bin_size))


def _bin_means(values: np.ndarray, size: int) -> np.ndarray:
    """Mean of each bin over the values that are not nan; nan in a bin without any."""
    if size == 1:
        return values
    edges = np.arange(0, len(values), size)
    known = ~np.isnan(values)
    counts = np.add.reduceat(known.astype(np.int64), edges)
    sums = np.add.reduceat(np.where(known, values, 0.0), edges)
    return np.divide(sums, counts, where=counts > 0, out=np.full(len(edges), np.nan))


def _lines(name: str, values: np.ndarray, start: int, end: int, size: int) -> Iterator[str]:
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    edges = np.concatenate([[0], changes, [len(values)]])
    for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if not np.isnan(values[a]):
            yield f"{name}\t{start + a * size}\t{min(start + b * size, end)}\t{values[a]:.4f}\n"
