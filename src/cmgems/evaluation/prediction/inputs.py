"""What a classifier is to predict: sequences of a file, windows around intervals, or every window
of a region; one at a time, so that a file of any length is read in the same memory.

| input | each row begins with |
| --- | --- |
| FASTA, 2bit, GenBank, EMBL | name |
| a table with a column `sequence` | name: of its column `name` or `id`, or else the line |
| intervals of a genome | chrom, start, end, name, strand, as in the file |
| a region of a genome, in steps | chrom, start, end of each window, from 0 |
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.alphabet import AMBIGUOUS, reverse_complement
from cmgems.genome.annotation.intervals import read_intervals
from cmgems.genome.annotation.lines import first_bytes, read_lines
from cmgems.genome.formats.reader import read_sequences
from cmgems.genome.formats.twobit import SIGNATURES
from cmgems.genome.genome import Genome
from cmgems.genome.names import ContigNames
from cmgems.genome.region import Region
from cmgems.tasks.readers import parse_sequence, parse_table
from cmgems.tasks.site_windows import window_start

WANTED = "FASTA, 2bit, GenBank, EMBL, a table with a column `sequence`, or intervals with --genome"
_NOTHING = np.empty(0, np.uint8)


class Item(NamedTuple):
    """A sequence to predict, or why there is none."""

    place: tuple[str | int, ...]  # what its row begins with
    codes: np.ndarray  # uint8 base codes
    why: str = ""  # `reason: more`; empty where it can be predicted
    start: int = 0  # of its codes, on the contig or in the sequence that `place` begins with
    strand: str = "+"  # on which they are read


class Input(NamedTuple):
    """All that is to be predicted."""

    columns: tuple[str, ...]  # names of what a row begins with
    items: Iterator[Item]
    total: int | None = None  # items, where that is known before they are read


def sequence_input(path: Path) -> Input:
    """The sequences of a file, which its first bytes tell from a table."""
    head = first_bytes(path, WANTED, 4096)
    text = head.lstrip(b"\r\n")
    if head[:4] in SIGNATURES or text.startswith((b">", b"LOCUS ", b"ID   ")):
        items = (Item((name,), codes) for name, codes in read_sequences(path))
        return Input(("name",), items)
    return Input(("name",), _table_items(path))


def _table_items(path: Path) -> Iterator[Item]:
    lines = (f"{line}\n" for _, line in read_lines(path, WANTED))
    empty = True
    for line, (letters, *names) in parse_table(path, lines, ("sequence",), ("name", "id")):
        codes = parse_sequence(f"{path}: line {line}", letters.encode())
        yield Item((next(filter(None, names), str(line)),), codes)
        empty = False
    if empty:
        raise UserError(f"{path}: has no row, wanted at least one sequence")


def interval_input(genome: Genome, source: str, window: int, center: str) -> Input:
    """A window around each interval of a file, or the interval itself; on its strand.

    Parameters
    ----------
    source : see `read_intervals`
    window : bases; 0: the interval itself
    center : see `cmgems.tasks.site_windows.CENTERS`
    """
    columns = ("chrom", "start", "end", "name", "strand")
    return Input(columns, _interval_items(genome, source, window, center))


def _interval_items(genome: Genome, source: str, window: int, center: str) -> Iterator[Item]:
    names = ContigNames(genome)
    for interval in read_intervals(source):
        place = (interval.contig, interval.start, interval.end, interval.name, interval.strand)
        start, end = interval.start, interval.end
        if window:
            start = window_start(interval, center, window)
            end = start + window
        try:
            placed = names.place(interval.contig, start, end)
        except UserError as error:
            yield Item(place, _NOTHING, f"not in the genome: {error}")
            continue
        first = placed.contig.start + placed.start
        codes = np.array(genome.codes[first : first + end - start])  # writable, as torch wants it
        if interval.strand == "-":
            yield Item(place, reverse_complement(codes), start=start, strand="-")
        else:
            yield Item(place, codes, start=start)


def region_input(genome: Genome, region: Region, window: int, step: int, strand: str) -> Input:
    """Every window that lies whole in a region, the first at its start, each `step` bases on.

    Parameters
    ----------
    window, step : bases
    strand : + or -, on which the windows are read; their order is the same

    Raises
    ------
    UserError
        If the region is shorter than a window.
    """
    length = region.end - region.start
    if length < window:
        raise UserError(f"--region: {region.name} has {length:,} bases, --window wants {window:,}")
    starts = range(region.start, region.end - window + 1, step)
    items = (_window(genome, region, start, window, strand) for start in starts)
    return Input(("chrom", "start", "end"), items, len(starts))


def _window(genome: Genome, region: Region, start: int, window: int, strand: str) -> Item:
    first, on_chromosome = region.contig.start + start, region.offset + start
    codes = np.array(genome.codes[first : first + window])
    place = (region.contig_name, on_chromosome, on_chromosome + window)
    if (codes == AMBIGUOUS).all():
        return Item(place, _NOTHING, "no known base")
    if strand == "-":
        codes = reverse_complement(codes)
    return Item(place, codes, start=on_chromosome, strand=strand)
