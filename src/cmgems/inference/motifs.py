"""Motifs from the files that people have: JASPAR's matrices, MEME's, or a consensus per line; and
those of JASPAR itself, which the package pyjaspar brings along.

Shapes: S bases of a motif.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from Bio.Data.IUPACData import ambiguous_dna_values

from cmgems.errors import UserError
from cmgems.genome.alphabet import BASES, encode_bases
from cmgems.utils.files import open_input

JASPAR = "jaspar"  # in place of a file
_IUPAC = ambiguous_dna_values | {"U": "T"}
_BACKGROUND = "Background letter frequencies"
_WANTED = f"matrices of JASPAR or MEME, lines of a name and a consensus, or {JASPAR}"


class Motif(NamedTuple):
    """A motif: how often each base was seen at each of its places."""

    name: str
    codes: np.ndarray  # uint8 [S], the consensus
    counts: np.ndarray  # float64 [S, 4], in the order A T C G

    @property
    def consensus(self) -> str:
        return "".join(BASES[code] for code in self.codes)


def read_motifs(source: Path | str) -> list[Motif]:
    """The motifs of a file, or, of `jaspar`, the vertebrates' of JASPAR's core collection.

    The most frequent base of each place is the consensus; of equally frequent ones, as IUPAC's
    letters in a line name them, the first of A, T, C, G.

    Raises
    ------
    UserError
        If there are none, a matrix cannot be read, a consensus has letters that are no bases, or
        pyjaspar is missing.
    """
    if str(source) == JASPAR:
        return list(_of_jaspar())
    path = Path(source)
    with open_input(path, _WANTED) as handle:
        text = handle.readall().decode("utf-8", "replace")
    start = text.lstrip()
    if start.startswith(">"):
        motifs = list(_matrices(path, text, "jaspar"))
    elif start.startswith("MEME version"):
        if _BACKGROUND not in text:  # which may be left out, but not for Biopython
            text = text.replace("MOTIF", f"{_BACKGROUND}\nA 0.25 C 0.25 G 0.25 T 0.25\n\nMOTIF", 1)
        motifs = list(_matrices(path, text, "minimal"))
    else:
        motifs = list(_lines(path, text))
    if not motifs:
        raise UserError(f"{path}: has no motif, wanted {_WANTED}")
    return motifs


def _of_jaspar() -> Iterator[Motif]:
    try:
        from pyjaspar import jaspardb  # an extra, which brings JASPAR's releases along
    except ImportError as error:
        raise UserError(
            "--motifs: jaspar is read by pyjaspar, wanted a file of matrices, or pip install "
            "'cmgems[motifs]'"
        ) from error
    database = jaspardb()
    try:
        found = database.fetch_motifs(collection="CORE", tax_group=["vertebrates"])
    finally:
        database.conn.close()
    return map(_of_biopython, found)


def _matrices(path: Path, text: str, kind: str) -> Iterator[Motif]:
    from Bio import motifs  # heavy, and other files do not need it

    try:
        found = [_of_biopython(each) for each in motifs.parse(io.StringIO(text), kind)]
    except Exception as error:  # of any kind, a bare Exception and an UnboundLocalError among them
        problem = " ".join(str(error).split())
        raise UserError(f"{path}: is no file of {_WANTED} ({problem})") from error
    for motif in found:
        counts_S4 = motif.counts
        usable = np.isfinite(counts_S4).all() and (counts_S4 >= 0).all()
        if not (usable and len(counts_S4) and (counts_S4.sum(1) > 0).all()):
            raise UserError(
                f"{path}: {motif.name}: has a place without a count, or a count that is none, "
                f"wanted 0 or more of each base"
            )
        yield motif


def _of_biopython(motif: Any) -> Motif:
    """Of a `Bio.motifs.Motif`."""
    counts_S4 = np.array([motif.counts[base] for base in BASES], np.float64).T
    name = f"{getattr(motif, 'matrix_id', None) or ''} {motif.name or ''}".strip()
    return Motif(name, encode_bases(str(motif.consensus)), counts_S4)


def _lines(path: Path, text: str) -> Iterator[Motif]:
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields or line.startswith("#"):
            continue
        if len(fields) != 2:
            raise UserError(
                f"{path}: line {number}: found {line[:60]!r}, wanted a name and letters"
            )
        name, letters = fields
        bases = [_IUPAC.get(letter, "") for letter in letters.upper()]
        if not all(bases) or not any(len(each) < len(BASES) for each in bases):
            raise UserError(
                f"{path}: {name}: found the consensus {letters[:60]!r}, wanted A, C, G, T or the "
                f"letters for several of them (R, Y, N, ...)"
            )
        counts_S4 = np.array([[(base in each) / len(each) for base in BASES] for each in bases])
        yield Motif(name, counts_S4.argmax(1).astype(np.uint8), counts_S4)
