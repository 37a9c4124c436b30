"""Intervals from the files that people have: BED, GTF, GFF3, and tables with a header; plain, gzip or
bgzip, one line at a time.

| file | columns | coordinates |
| --- | --- | --- |
| BED | chrom, start, end; then name, score, strand; more are ignored. The fourth alone may be the name, the score (bedGraph) or the strand | from 0, the end is behind the last base |
| GTF, GFF3 | the lines of one feature, as `genes.gtf:exon`; the name is gene_name, gene_id, Name or ID | from 1, the end is the last base |
| table | a header with a chromosome (chrom, chr, region, seqname, ...), start, end; perhaps name, score, strand; tab- or comma-separated (Genomic Benchmarks, BEND) | as BED |

Lines that begin with `#`, `track` or `browser` are skipped.
"""  # noqa: E501

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cmgems.errors import UserError
from cmgems.genome.annotation.lines import read_lines

_WANTED = "BED, GTF:FEATURE, or a table with chrom, start, end"
_NUMBER = re.compile(r"[0-9]{1,12}")
_SCORE = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_ATTRIBUTE = re.compile(r'(?<!\w)(gene_name|gene_id|Name|ID)[ =]"?([^";]*)')
_STRANDS = ("+", "-", ".")
_SKIPPED = ("#", "track ", "track\t", "browser ", "browser\t")
_COLUMNS = {
    "chrom": ("chrom", "chr", "chromosome", "region", "seqname", "seqid", "contig"),
    "start": ("start", "chromstart", "chrom_start"),
    "end": ("end", "stop", "chromend", "chrom_end"),
    "name": ("name", "id", "gene"),
    "score": ("score",),
    "strand": ("strand",),
}


class Interval(NamedTuple):
    """A part of a contig."""

    contig: str
    start: int  # from 0
    end: int  # behind the last base
    name: str = ""
    score: str = ""
    strand: str = "."  # + - or . where it is not known
    line: int = 0  # of its file


def split_feature(text: str) -> tuple[Path, str]:
    """A file and a feature, of `genes.gtf:exon`; "" where no feature is named.

    >>> split_feature("no/such.gtf:exon")
    (PosixPath('no/such.gtf'), 'exon')
    """
    name, colon, feature = text.rpartition(":")
    if not colon or Path(text).exists():
        return Path(text).expanduser(), ""
    return Path(name).expanduser(), feature


def read_intervals(source: str) -> Iterator[Interval]:
    """The intervals of a file, in its order.

    Parameters
    ----------
    source : a file, or for GTF and GFF3 `FILE:FEATURE`

    Raises
    ------
    UserError
        If the file cannot be read, has no interval, or a line of it is none: with its number.
    """
    path, feature = split_feature(source)
    parse: _Parser | None = None
    features: set[str] = set()
    count = 0
    for number, line in read_lines(path, _WANTED):
        if not line.strip() or line.startswith(_SKIPPED):
            continue
        where = f"{path}: line {number}"
        if parse is None:
            parse, is_header = _dialect(where, line, feature)
            if is_header:
                continue
        fields = _fields(line)
        if feature:
            features.add(fields[2] if len(fields) > 2 else "")
            if len(fields) > 2 and fields[2] != feature:
                continue
        yield parse(where, fields)._replace(line=number)
        count += 1
    if feature and features and not count:
        found = ", ".join(sorted(features)[:8])
        raise UserError(f"{path}: has no feature {feature}, it has {found}")
    if not count:
        raise UserError(f"{path}: has no interval, wanted {_WANTED}")


def _fields(line: str) -> list[str]:
    """The fields of a line: between tabs, or else between commas or blanks."""
    if "\t" in line:
        return line.split("\t")
    return line.split(",") if "," in line else line.split()


_Parser = Callable[[str, list[str]], Interval]  # of where a line is, and its fields


def _dialect(where: str, line: str, feature: str) -> tuple[_Parser, bool]:
    """What reads the lines of a file, told by its first one, and whether that is a header."""
    fields = _fields(line)
    is_gtf = len(fields) >= 8 and _are_numbers(fields[3:5]) and not _are_numbers(fields[1:3])
    if is_gtf != bool(feature):
        found = "GTF without a feature" if is_gtf else f"no GTF, but the feature {feature}"
        raise UserError(f"{where}: found {found}, wanted {_WANTED}")
    if is_gtf:
        return _read_gtf, False
    names = [field.strip().strip('"').lower() for field in fields]
    columns = {
        column: names.index(name)
        for column, spellings in _COLUMNS.items()
        for name in spellings[::-1]
        if name in names
    }
    if {"chrom", "start", "end"} <= set(columns):
        return partial(_read_row, columns), True
    return _read_bed, False


def _are_numbers(fields: list[str]) -> bool:
    return all(_NUMBER.fullmatch(field.strip()) for field in fields)


def _coordinates(where: str, start: str, end: str) -> tuple[int, int]:
    if not (_NUMBER.fullmatch(start) and _NUMBER.fullmatch(end)):
        found = f"{start[:20]!r} and {end[:20]!r}"
        raise UserError(f"{where}: found {found}, wanted the numbers of a start and an end")
    if int(end) < int(start):
        raise UserError(f"{where}: ends at {end}, in front of its start {start}")
    return int(start), int(end)


def _read_row(columns: dict[str, int], where: str, fields: list[str]) -> Interval:
    """A row of a table with a header."""
    found = {
        name: fields[number].strip().strip('"')
        for name, number in columns.items()
        if number < len(fields)
    }
    if not {"chrom", "start", "end"} <= set(found):
        raise UserError(f"{where}: found {len(fields)} columns, wanted as in the header")
    start, end = _coordinates(where, found["start"], found["end"])
    strand = found.get("strand", ".")
    return Interval(
        contig=found["chrom"],
        start=start,
        end=end,
        name=found.get("name", ""),
        score=found.get("score", ""),
        strand=strand if strand in _STRANDS else ".",
    )


def _read_bed(where: str, fields: list[str]) -> Interval:
    fields = [field.strip() for field in fields]
    if len(fields) < 3:
        raise UserError(f"{where}: found {len(fields)} columns, wanted {_WANTED}")
    contig, (start, end) = fields[0], _coordinates(where, fields[1], fields[2])
    further = fields[3:]
    if len(further) == 1:
        (field,) = further
        if field in _STRANDS:
            return Interval(contig, start, end, strand=field)
        if _SCORE.fullmatch(field):
            return Interval(contig, start, end, score=field)
        return Interval(contig, start, end, name=field)
    if len(further) == 2 and further[1] in ("+", "-"):
        return Interval(contig, start, end, further[0], strand=further[1])
    name, score, strand = (*further[:3], *("", "", ".")[len(further[:3]) :])
    return Interval(contig, start, end, name, score, strand if strand in _STRANDS else ".")


def _read_gtf(where: str, fields: list[str]) -> Interval:
    if len(fields) < 8:
        raise UserError(f"{where}: found {len(fields)} columns, wanted the 9 of GTF")
    start, end = _coordinates(where, fields[3].strip(), fields[4].strip())
    if not start:
        raise UserError(f"{where}: starts at 0, wanted 1 or more: GTF counts from 1")
    attributes: dict[str, str] = {}
    for key, value in _ATTRIBUTE.findall(fields[8]) if len(fields) > 8 else ():
        attributes.setdefault(key, value.strip())
    named = (attributes[key] for key in ("gene_name", "gene_id", "Name", "ID") if key in attributes)
    strand = fields[6] if fields[6] in _STRANDS else "."
    return Interval(fields[0], start - 1, end, next(named, ""), fields[5], strand)
