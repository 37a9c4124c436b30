"""A region of a genome, as a user names it: `chr20:44,000,001-44,100,000`."""

import re
from typing import NamedTuple

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.genome import Contig, Genome
from cmgems.genome.names import ContigNames, piece_of


class Region(NamedTuple):
    """A part of a contig; offsets in the contig, from 0, the end is after the last base."""

    contig: Contig
    start: int
    end: int
    chromosome: str = ""  # the user's name of it, where that is not the contig's name
    offset: int = 0  # offset of the contig in that chromosome

    @property
    def contig_name(self) -> str:
        return self.chromosome or self.contig.name

    @property
    def first_base(self) -> int:
        """The position of the first base as biologists count, from 1 (in the chromosome)."""
        return self.offset + self.start + 1

    @property
    def name(self) -> str:
        return f"{self.contig_name}:{self.first_base:,}-{self.offset + self.end:,}"

    def codes(self, genome: Genome) -> np.ndarray:
        """The base codes of the region, uint8 [end - start]."""
        return genome.codes[self.contig.start + self.start : self.contig.start + self.end]


def parse_region(genome: Genome, text: str) -> Region:
    """The region that `CONTIG` or `CONTIG:START-END` names.

    Positions count from 1 and both ends belong to the region, as in genome browsers; commas in
    the numbers are allowed. The contig may have any of its names (`cmgems.genome.names`); one that
    is itself a piece of a chromosome (`20:44000001-48000000`, as in the sample) is found by the
    chromosome's name and coordinates too.

    Raises
    ------
    UserError
        If the text has another form, or the genome does not have the region, or in pieces.
    """
    region, *others = parse_regions(genome, text)
    if others:
        raise UserError(
            f"region: {text} is {1 + len(others)} pieces in {genome.name}, wanted one such as "
            f"{region.contig.name}"
        )
    return region


def parse_regions(genome: Genome, text: str) -> list[Region]:
    """The same, and all pieces of a chromosome of which the genome has several."""
    whole = [_whole_contig(contig, offset, text) for contig, offset in _named(genome, text)]
    if whole:
        return whole
    parsed = re.fullmatch(r"(.+):(\d[\d,]*)-(\d[\d,]*)", text, re.ASCII)
    name, *numbers = parsed.groups() if parsed else ("", "0", "0")
    start, end = (int(number.replace(",", "")[:18]) for number in numbers)
    some = ", ".join(f"{c.name} ({c.length:,} bases)" for c in genome.contigs[:3])
    if not 1 <= start <= end:
        raise UserError(
            f"region: found {text!r}, wanted CONTIG:START-END, or a contig of {genome.name}: {some}"
        )
    try:
        placed = ContigNames(genome).place(name, start - 1, end)
    except UserError as error:
        raise UserError(f"region: {text} is not in {genome.name}, which has {some}") from error
    chromosome = "" if name == placed.contig.name else name
    return [Region(placed.contig, placed.start, placed.end, chromosome, placed.offset)]


def _named(genome: Genome, text: str) -> list[tuple[Contig, int]]:
    try:
        return ContigNames(genome).find(text)
    except UserError as error:
        raise UserError(f"region: {error}") from error


def _whole_contig(contig: Contig, offset: int, text: str) -> Region:
    """A contig that was named, in the coordinates of the chromosome if it is a piece of one."""
    if contig.name == text:
        chromosome, offset = piece_of(text)
        return Region(contig, 0, contig.length, chromosome if offset else "", offset)
    return Region(contig, 0, contig.length, text, offset)
