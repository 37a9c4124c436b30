"""Variants against the reference: a VCF or a table in, a score for each out."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.alphabet import AMBIGUOUS, BASES, encode_bases
from cmgems.genome.genome import Genome
from cmgems.inference.likelihood import TOKENS_AT_ONCE, base_distribution
from cmgems.models.encoder import MaskedLanguageModel
from cmgems.tokenization import Tokenization
from cmgems.utils.files import read_text

COLUMNS = ("chrom", "pos", "ref", "alt")
LETTERS = BASES + "N"


class Variant(NamedTuple):
    """One alternative at one place; `pos` counts from 1, as in a VCF."""

    chrom: str
    pos: int
    name: str
    ref: str
    alt: str
    origin: str  # where it was read, for messages: `calls.vcf: line 7`


class VariantScore(NamedTuple):
    """`score` is nan for what is no exchange of a single base, `why` then says so."""

    variant: Variant
    score: float
    why: str


def read_variants(path: Path) -> list[Variant]:
    """Of a VCF, or of a table (TSV or CSV) with the columns chrom, pos, ref, alt; plain or gzip.

    Raises
    ------
    UserError
        With file and line, if it is neither.
    """
    lines = read_text(path, "a VCF or a table").splitlines()
    rows = [(n, line) for n, line in enumerate(lines, 1) if line and not line.startswith("##")]
    if not rows:
        raise UserError(f"{path}: has no variants, wanted a VCF or a table")
    comma = "," if "\t" not in rows[0][1] else "\t"
    header = [name.strip().lower().lstrip("#") for name in rows[0][1].split(comma)]
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise UserError(
            f"{path}: line {rows[0][0]}: found the columns {', '.join(header)}, wanted "
            f"{', '.join(COLUMNS)}"
        )
    places = {name: header.index(name) for name in (*COLUMNS, *{"id"} & set(header))}
    found: list[Variant] = []
    for (number, _), row in zip(
        rows[1:], csv.reader([line for _, line in rows[1:]], delimiter=comma), strict=True
    ):
        found += _variants(path, number, row, places)
    return found


def _variants(path: Path, line: int, row: list[str], places: dict[str, int]) -> Iterator[Variant]:
    if len(row) <= max(places.values()):
        raise UserError(f"{path}: line {line}: found {len(row)} columns, wanted as in the header")
    chrom, pos, ref, alts = (row[places[name]].strip() for name in COLUMNS)
    if not pos.isdigit() or pos == "0":
        raise UserError(f"{path}: line {line}: found the position {pos!r}, wanted 1 or more")
    name = row[places["id"]] if "id" in places else ""
    for alt in alts.split(","):
        yield Variant(chrom, int(pos), name, ref.upper(), alt.upper(), f"{path}: line {line}")


def score_variants(
    model: MaskedLanguageModel,
    tokenization: Tokenization,
    genome: Genome,
    variants: list[Variant],
    window: int = 0,
) -> Iterator[VariantScore]:
    """ln p(alternative) - ln p(reference) of each, in order, from windows with it in the middle.

    Parameters
    ----------
    window : bases around a variant; 0: as many as the model has positions for

    Raises
    ------
    UserError
        If a place is not in the genome, or another base than the reference stands there.
    """
    most = tokenization.max_bases(model.encoder.config.max_position_embeddings)
    window = min(window or most, most)
    step = max(1, TOKENS_AT_ONCE // window)
    for start in range(0, len(variants), step):
        part = variants[start : start + step]
        cut = [_window(genome, variant, window) for variant in part]
        reasons = [_reason(v, w[0][w[1]]) for v, w in zip(part, cut, strict=True)]
        usable = [n for n, reason in enumerate(reasons) if not reason]
        scores = np.full(len(part), np.nan)
        if usable:
            shares = base_distribution(
                model,
                tokenization,
                np.stack([cut[n][0] for n in usable]),
                np.array([cut[n][1] for n in usable]),
            ).log()
            for row, n in enumerate(usable):
                alt, ref = BASES.index(part[n].alt), BASES.index(part[n].ref)
                scores[n] = float(shares[row, alt] - shares[row, ref])
        yield from map(VariantScore, part, scores.tolist(), reasons)


def _window(genome: Genome, variant: Variant, size: int) -> tuple[np.ndarray, int]:
    """Base codes around a variant, beyond the contig's ends unknown, and where in them it is."""
    names = {contig.name: contig for contig in genome.contigs}
    contig = names.get(variant.chrom)
    if contig is None:
        raise UserError(
            f"{variant.origin}: found the contig {variant.chrom!r}, the genome {genome.name} has "
            f"{', '.join(list(names)[:5])}"
        )
    if variant.pos > contig.length:
        raise UserError(
            f"{variant.origin}: found position {variant.pos:,}, {contig.name} has "
            f"{contig.length:,} bases"
        )
    at = variant.pos - 1
    its = genome.codes[contig.start : contig.start + contig.length]
    stands = its[at : at + len(variant.ref)]
    wanted = encode_bases(variant.ref)
    if not np.array_equal(stands, wanted):
        found = "".join(LETTERS[code] for code in stands)
        raise UserError(
            f"{variant.origin}: the reference allele is {variant.ref}, but {contig.name}:"
            f"{variant.pos:,} of {genome.name} is {found}; wanted variants called on this genome"
        )
    codes = np.full(size, AMBIGUOUS, np.uint8)
    left = at - size // 2
    low, high = max(left, 0), min(left + size, contig.length)
    codes[low - left : high - left] = its[low:high]
    return codes, size // 2


def _reason(variant: Variant, code: int) -> str:
    """Why a variant has no score; empty where it has one."""
    if len(variant.ref) != 1 or len(variant.alt) != 1:
        return "not a single base"
    if variant.alt not in BASES or code >= AMBIGUOUS:
        return "not A, C, G or T"
    return ""
