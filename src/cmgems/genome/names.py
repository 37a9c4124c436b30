"""Names of contigs: one rule by which `chr20`, `20` and `NC_000020.10` meet, wherever coordinates
are read.

Two names are those of the same contig if they are equal, or if they are so without `chr`, with
RefSeq accessions of human chromosomes (`NC_000001` to `NC_000024`, `NC_012920`) as their numbers,
23 and 24 as X and Y, and M as MT. Two accessions of different versions never meet: they are
different assemblies. Of several genomes as one the names begin with that of the genome
(`hg38/chr20`), which has to be equal (`cmgems.genome.joined`). A contig whose name is a region
(`20:44000001-48000000`, as in the sample) is a piece of that chromosome and has its coordinates.
"""

import re
from typing import NamedTuple

from cmgems.errors import UserError
from cmgems.genome.genome import Contig, Genome

_ACCESSION = re.compile(r"NC_(0000(?:0[1-9]|1\d|2[0-4])|012920)\.\d+")
_PIECE = re.compile(r"(.+):(\d+)-(\d+)")
_SEX = {"23": "X", "24": "Y"}  # as the accessions count them


class Placement(NamedTuple):
    """Where an interval of a chromosome is in a genome."""

    contig: Contig
    start: int  # offset in the contig, from 0
    end: int  # behind its last base
    offset: int  # of the contig in the chromosome; 0 unless the contig is a piece of it


def plain_name(name: str) -> str:
    """The name without what differs between publishers.

    >>> [plain_name(name) for name in ("chr20", "20", "NC_000020.10", "chrM", "NC_000023.11")]
    ['20', '20', '20', 'MT', 'X']
    """
    genome, slash, contig = name.rpartition("/")
    return f"{genome}{slash}{_plain_contig(contig)}"


def _plain_contig(name: str) -> str:
    accession = _ACCESSION.fullmatch(name)
    if accession:
        number = accession[1]
        return "MT" if number == "012920" else _SEX.get(number[4:], number[4:].lstrip("0"))
    bare = name[3:] if name[:3].lower() == "chr" and len(name) > 3 else name
    return "MT" if bare == "M" else bare


def are_same(a: str, b: str) -> bool:
    """Whether two names are those of the same contig."""
    if a == b:
        return True
    both_accessions = all(_ACCESSION.fullmatch(name.rpartition("/")[2]) for name in (a, b))
    return not both_accessions and plain_name(a) == plain_name(b)


def piece_of(contig: str) -> tuple[str, int]:
    """The chromosome that a contig is of, and its offset there: its own name and 0 unless its name
    is that of a region.

    >>> piece_of("20:44000001-48000000")
    ('20', 44000000)
    """
    parsed = _PIECE.fullmatch(contig)
    return (parsed[1], int(parsed[2]) - 1) if parsed and int(parsed[2]) else (contig, 0)


class ContigNames:
    """Finds intervals in a genome by any name of their contig; names are resolved once each."""

    def __init__(self, genome: Genome) -> None:
        self.genome = genome
        self._resolved: dict[str, list[tuple[Contig, int]]] = {}

    def place(self, name: str, start: int, end: int) -> Placement:
        """Where bases start .. end - 1 (from 0) of a contig or chromosome are.

        Raises
        ------
        UserError
            If the genome does not have them: without the file and line, which the caller knows.
        """
        contigs = self.find(name)
        for contig, offset in contigs:
            if offset <= start and end <= offset + contig.length:
                return Placement(contig, start - offset, end - offset, offset)
        if not contigs:
            some = ", ".join(contig.name for contig in self.genome.contigs[:3])
            more = ", …" if len(self.genome.contigs) > 3 else ""
            raise UserError(f"{self.genome.name} has no contig {name}, it has {some}{more}")
        contig, offset = contigs[0]
        known = f"bases {offset + 1:,} to {offset + contig.length:,} of {name}"
        raise UserError(f"{self.genome.name} has {known}, found {start + 1:,} to {end:,}")

    def find(self, name: str) -> list[tuple[Contig, int]]:
        """The contig of this name, or the pieces of this chromosome, with their offsets in it.

        Raises
        ------
        UserError
            If several contigs have the name by the rule above and none exactly.
        """
        if name not in self._resolved:
            self._resolved[name] = self._search(name)
        return self._resolved[name]

    def _search(self, name: str) -> list[tuple[Contig, int]]:
        contigs = self.genome.contigs
        exact = [(contig, 0) for contig in contigs if contig.name == name]
        if exact:
            return exact
        found = [(contig, 0) for contig in contigs if are_same(contig.name, name)]
        if len(found) > 1:
            names = " and ".join(contig.name for contig, _ in found[:2])
            raise UserError(f"{self.genome.name} has both {names}, wanted one of these, not {name}")
        pieces = [(contig, *piece_of(contig.name)) for contig in contigs]
        of_it = [(c, offset) for c, chromosome, offset in pieces if are_same(chromosome, name)]
        return found or of_it
