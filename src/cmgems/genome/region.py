"""A region of a genome, as a user names it: `chr20:44,000,001-44,100,000`."""

import re
from typing import NamedTuple

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.genome import Contig, Genome


class Region(NamedTuple):
    """A part of a contig; offsets in the contig, from 0, the end is behind the last base."""

    contig: Contig
    start: int
    end: int
    chromosome: str = ""  # as the user named it, where that is not the contig's name
    offset: int = 0  # of the contig in that chromosome

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
        """Its base codes, uint8 [end - start]."""
        return genome.codes[self.contig.start + self.start : self.contig.start + self.end]


def parse_region(genome: Genome, text: str) -> Region:
    """The region of `CONTIG`, or of `CONTIG:START-END`, from 1 and with both ends, as browsers
    write it, with or without commas.

    A contig that is itself a piece of a chromosome (`20:44000001-48000000`, as in the sample) is
    found by the chromosome's coordinates too, with or without `chr`.

    Raises
    ------
    UserError
        If it is not written like that, or the genome does not have it.
    """
    for contig in genome.contigs:
        if contig.name == text:
            return Region(contig, 0, contig.length)
    parsed = re.fullmatch(r"(.+):(\d[\d,]*)-(\d[\d,]*)", text)
    numbers = parsed.groups()[1:] if parsed else ("0", "0")
    start, end = (int(number.replace(",", "")) for number in numbers)
    if not 1 <= start <= end:
        raise UserError(f"region: found {text!r}, wanted CONTIG:START-END, or a contig")
    for contig in genome.contigs:
        offset = _offset(contig.name, parsed[1])
        if offset is not None and offset < start and end <= offset + contig.length:
            chromosome = "" if parsed[1] == contig.name else parsed[1]
            return Region(contig, start - 1 - offset, end - offset, chromosome, offset)
    some = ", ".join(f"{c.name} ({c.length:,} bases)" for c in genome.contigs[:3])
    raise UserError(f"region: {text} is not in {genome.name}, which has {some}")


def _offset(contig: str, wanted: str) -> int | None:
    """Bases of the wanted chromosome that come before a contig; None: it is of another one."""
    bare = wanted.removeprefix("chr")
    if contig in (wanted, f"chr{wanted}", bare):
        return 0
    piece = re.fullmatch(r"(?:chr)?(.+):(\d+)-(\d+)", contig)
    return int(piece[2]) - 1 if piece and piece[1] == bare else None
