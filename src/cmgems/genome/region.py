"""A region of a genome, as a user names it: `chr20:44,000,001-44,100,000`."""

import re
from typing import NamedTuple

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.genome import Contig, Genome


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
    the numbers are allowed.

    A contig that is itself a piece of a chromosome (`20:44000001-48000000`, as in the sample) is
    found by the chromosome's coordinates too, with or without `chr`.

    Raises
    ------
    UserError
        If the text has another form, or the genome does not have the region.
    """
    for contig in genome.contigs:
        if contig.name == text:
            return Region(contig, 0, contig.length)
    parsed = re.fullmatch(r"(.+):(\d[\d,]*)-(\d[\d,]*)", text)
    name, *numbers = parsed.groups() if parsed else ("", "0", "0")
    start, end = (int(number.replace(",", "")) for number in numbers)
    if not 1 <= start <= end:
        raise UserError(f"region: found {text!r}, wanted CONTIG:START-END, or a contig")
    for contig in genome.contigs:
        offset = _offset(contig.name, name)
        if offset is not None and offset < start and end <= offset + contig.length:
            chromosome = "" if name == contig.name else name
            return Region(contig, start - 1 - offset, end - offset, chromosome, offset)
    some = ", ".join(f"{c.name} ({c.length:,} bases)" for c in genome.contigs[:3])
    raise UserError(f"region: {text} is not in {genome.name}, which has {some}")


def _offset(contig: str, chromosome: str) -> int | None:
    """The offset of a contig in a chromosome; None if it belongs to another one."""
    bare = chromosome.removeprefix("chr")
    if contig in (chromosome, f"chr{chromosome}", bare):
        return 0
    piece = re.fullmatch(r"(?:chr)?(.+):(\d+)-(\d+)", contig)
    return int(piece[2]) - 1 if piece and piece[1] == bare else None
