"""The difficulty along a sequence, as a bedGraph for a genome browser.

A base has the NPMI of the k-mer whose middle it is: the one that begins (k - 1) // 2 bases before
it. Bases without one (near N or the end of the contig, or whose k-mer has no score) have no line.
A table that has ranks alone is shown as minus the rank.
"""

from collections.abc import Iterator
from typing import IO

import numpy as np

from cmgems.difficulty.table import PmiTable
from cmgems.errors import UserError
from cmgems.genome.genome import Contig, Genome
from cmgems.genome.region import Region

_CHUNK = 1 << 20  # bases that are worked on together


def base_difficulty(
    genome: Genome, table: PmiTable, contig: Contig, start: int, end: int
) -> np.ndarray:
    """NPMI of the k-mer around each base of contig[start:end], float64, nan where there is none."""
    k, before = table.k, (table.k - 1) // 2
    first, last = start - before, end - before + k - 1  # the codes that the k-mers cover
    codes = np.full(last - first, 4, np.int64)
    inside = slice(max(first, 0), min(last, contig.length))
    codes[inside.start - first : inside.stop - first] = genome.codes[
        contig.start + inside.start : contig.start + inside.stop
    ]
    ids = np.zeros(end - start, np.int64)
    broken = np.zeros(end - start, bool)
    for i in range(k):
        code = codes[i : i + end - start]
        ids = 4 * ids + (code & 3)
        broken |= code > 3
    scores = table.npmi if not np.isnan(table.npmi).all() else -table.rank.astype(float)
    return np.where(broken, np.nan, scores[ids])


def write_track(
    genome: Genome, table: PmiTable, region: Region, handle: IO[str], bin_size: int = 1
) -> None:
    """Write a region as bedGraph: the mean over each bin of `bin_size` bases (counted from the
    start of the region), neighbours of the same value joined."""
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
        values = _binned(base_difficulty(genome, table, contig, at, stop), bin_size)
        handle.writelines(_lines(contig.name, values, at, stop, bin_size))


def _binned(values: np.ndarray, size: int) -> np.ndarray:
    """Mean of the values that are there in each bin; nan in a bin without any."""
    if size == 1:
        return values
    edges = np.arange(0, len(values), size)
    there = ~np.isnan(values)
    counts = np.add.reduceat(there.astype(np.int64), edges)
    sums = np.add.reduceat(np.where(there, values, 0.0), edges)
    return np.divide(sums, counts, where=counts > 0, out=np.full(len(edges), np.nan))


def _lines(name: str, values: np.ndarray, start: int, end: int, size: int) -> Iterator[str]:
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    edges = np.concatenate([[0], changes, [len(values)]])
    for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if not np.isnan(values[a]):
            yield f"{name}\t{start + a * size}\t{min(start + b * size, end)}\t{values[a]:.4f}\n"
