"""Variants from the files that people have: VCF, BCF, and tables with the columns chrom, pos, ref,
alt; plain, gzip or bgzip.

Every alternative of every line comes out, also what cannot be read: then `why` says what is wrong
with its line. So a file of millions of lines is usable though some of them are not, and nothing is
lost without a word. BCF is read by pysam, if that is installed.
"""

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cmgems.errors import UserError
from cmgems.genome.annotation.lines import first_bytes, read_lines

COLUMNS = ("chrom", "pos", "ref", "alt")
MALFORMED = "malformed line"
_WANTED = "a VCF or a table"
_POSITION = re.compile(r"[1-9][0-9]{0,11}")
_TRUE, _FALSE = ("1", "true", "yes", "1.0"), ("0", "false", "no", "0.0")
_MAX_SHOWN = 40  # letters of a field that cannot be used


class Variant(NamedTuple):
    """One alternative at one place."""

    chrom: str
    pos: int  # from 1, as in a VCF; 0 where the line has none
    name: str
    ref: str
    alt: str
    origin: str  # where it was read, for messages: `calls.vcf: line 7`
    label: bool | None = None
    why: str = ""  # why it could not be read: `malformed line: ...`


class _Header(NamedTuple):
    """What the lines of a file are."""

    separator: str
    columns: dict[str, int]  # number of each column that is used, by its name
    is_vcf: bool  # fields are never quoted
    label: str = ""  # a key of INFO or, of a table, the column `label` in `columns`
    is_flag: bool = False  # the label is a flag of INFO: true where it is there


def read_variants(
    path: Path, labels: str = "", advance: Callable[[int], object] = lambda n: None
) -> Iterator[Variant]:
    """The alternatives of a file, in its order.

    Parameters
    ----------
    labels : a column of a table, or a key of a VCF's INFO field: 0 or 1, true or false, yes or no;
        a flag; "": none
    advance : called with the number of bytes of the file that were read since the last call

    Raises
    ------
    UserError
        If the file cannot be read at all: damaged, not text, without a header, without `labels`.
    """
    is_bcf = first_bytes(path, _WANTED, 3) == b"BCF"
    lines = _bcf_lines(path) if is_bcf else read_lines(path, _WANTED, advance)
    info: dict[str, str] = {}  # keys of INFO that the file declares, and their types
    header = None
    for number, line in lines:
        if not line.strip():
            continue
        if header is None and line.startswith("##"):
            declared = re.match(r"##INFO=<ID=([^,]+),.*?Type=(\w+)", line)
            if declared:
                info[declared[1]] = declared[2]
        elif header is None:
            header = _read_header(f"{path}: line {number}", line, labels, info)
        elif not (header.is_vcf and line.startswith("#")):
            yield from _read_line(f"{path}: line {number}", line, header)
    if header is None:
        raise UserError(f"{path}: has no variants, wanted {_WANTED}")


def _bcf_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The records of a BCF as the lines of a VCF."""
    try:
        import pysam  # an extra, which no other format needs
    except ImportError as error:
        raise UserError(
            f"{path}: is BCF, which pysam reads; wanted a VCF, or pip install 'cmgems[variants]'"
        ) from error
    pysam.set_verbosity(0)  # one line of ours in place of several of htslib's
    number = 0
    try:
        with pysam.VariantFile(str(path)) as records:
            for line in str(records.header).splitlines():
                number += 1
                yield number, line
            for record in records:
                number += 1
                yield number, str(record).rstrip("\n")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: is damaged behind line {number}, wanted {_WANTED}") from error


def _read_header(origin: str, line: str, labels: str, info: dict[str, str]) -> _Header:
    is_vcf = line.startswith("#CHROM\t")
    separator = "\t" if "\t" in line else ","
    try:
        fields = _split(line, separator, is_vcf)
    except csv.Error as error:
        raise UserError(f"{origin}: its quotes cannot be read ({error})") from error
    names = [field.strip().lower().lstrip("#") for field in fields]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise UserError(
            f"{origin}: found the columns {', '.join(map(shorten, names[:8]))}, wanted "
            f"{', '.join(COLUMNS)}"
        )
    columns = {name: names.index(name) for name in (*COLUMNS, *{"id"} & set(names))}
    if labels and is_vcf:
        columns["info"] = names.index("info") if "info" in names else len(names)
        if labels not in info and info:
            raise UserError(f"{origin}: INFO has {', '.join(info)}, wanted the label {labels}")
    elif labels:
        if labels.lower() not in names:
            raise UserError(f"{origin}: found no column {labels}, wanted one with the labels")
        columns["label"] = names.index(labels.lower())
    return _Header(separator, columns, is_vcf, labels, info.get(labels) == "Flag")


def _split(line: str, separator: str, is_vcf: bool) -> list[str]:
    """The fields of a line; those of a table may be quoted.

    Raises
    ------
    csv.Error
        If the quotes or a field of a comma-separated line cannot be read.
    """
    fields = line.split(separator)
    if is_vcf or '"' not in line:
        return fields
    if separator == ",":
        return next(csv.reader([line], strict=True))
    return [f[1:-1] if len(f) > 1 and f[0] == f[-1] == '"' else f for f in fields]


def _read_line(origin: str, line: str, header: _Header) -> Iterator[Variant]:
    try:
        fields = _split(line, header.separator, header.is_vcf)
    except csv.Error as error:
        yield _malformed(origin, [], header, f"its quotes cannot be read ({error})")
        return
    needed = [header.columns[name] for name in COLUMNS]
    if len(fields) <= max(needed):
        yield _malformed(origin, fields, header, f"found {len(fields)} columns")
        return
    chrom, position, ref, alts = (fields[number].strip() for number in needed)
    if not _POSITION.fullmatch(position):
        yield _malformed(origin, fields, header, f"found the position {shorten(position)!r}")
        return
    name = fields[header.columns["id"]] if header.columns.get("id", 1 << 30) < len(fields) else ""
    alternatives = alts.split(",")
    for index, alt in enumerate(alternatives):
        label = _label(fields, header, index, len(alternatives))
        yield Variant(chrom, int(position), name, ref.upper(), alt.upper(), origin, label)


def _malformed(origin: str, fields: list[str], header: _Header, problem: str) -> Variant:
    """What there is of a line that cannot be read."""
    found = {
        name: shorten(fields[number])
        for name, number in header.columns.items()
        if number < len(fields)
    }
    line = origin.rpartition(": ")[2]
    return Variant(
        chrom=found.get("chrom", ""),
        pos=0,
        name=found.get("id", ""),
        ref=found.get("ref", ""),
        alt=found.get("alt", ""),
        origin=origin,
        why=f"{MALFORMED}: {line}: {problem}",
    )


def _label(fields: list[str], header: _Header, index: int, alternatives: int) -> bool | None:
    """The label of an alternative; None if it has none."""
    number = header.columns.get("info" if header.is_vcf else "label")
    if number is None or number >= len(fields):
        return None
    text = fields[number].strip()
    if header.is_vcf:
        entries = dict(entry.partition("=")[::2] for entry in text.split(";"))
        if header.is_flag:
            return header.label in entries
        text = entries.get(header.label, "")
    values = text.lower().split(",")
    value = values[index] if len(values) == alternatives else values[0]
    return True if value in _TRUE else False if value in _FALSE else None


def shorten(text: str) -> str:
    """At most 40 letters of a field, for a message or a row that says what is wrong with it."""
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"
