"""Labelled sequences from the files that people have.

| format | what it is |
| --- | --- |
| `table` | one line per example, tab- or comma-separated, quoted or not, with a header line: `sequence`, `label`. A sequence is plain DNA, or overlapping k-mers with spaces between (DNABERT, GeneMask) |
| `fasta_classes` | a sequence file for each class, in the order of the classes |
| `fasta_table` | a sequence file, and a table `name`, `label` |
| `fasta_header` | a sequence file whose names end in `|label` (Nucleotide Transformer) |
| `folders` | a folder for each class, a text file for each sequence (Genomic Benchmarks) |

Any of them plain or gzip. Letters in either case, U is T, N and other IUPAC codes become code 4;
any other letter, another set of labels or a file without examples is refused, with its line.
"""  # noqa: E501

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.formats.fasta_kernels import BYTE_CLASSES
from cmgems.genome.formats.reader import read_sequences
from cmgems.tasks.dataset import LabelledSequences, from_codes
from cmgems.utils.files import read_text

KINDS = ("binary", "multiclass", "multilabel", "regression")
_WANTED = "a table"
_MAX_FIELD = 1 << 30  # letters
_MAX_VALUE = 1e15  # of a regression's label
_IUPAC = 5  # the byte class of IUPAC codes other than N; below it are the codes 0 to 4


class ReadOptions(NamedTuple):
    """How the examples of a file are read."""

    kind: str  # one of KINDS
    classes: tuple[str, ...]  # labels as written in the file; () for a regression
    sequence_column: str = "sequence"
    label_column: str = "label"
    min_length: int = 1  # bases; a shorter sequence is refused


class Example(NamedTuple):
    """One example, before it is checked."""

    where: str  # `file: line 7`
    codes: np.ndarray  # uint8
    label: str
    name: str | None = None


def read_examples(format: str, paths: Sequence[Path], options: ReadOptions) -> LabelledSequences:
    """Read and check the examples of one split.

    Parameters
    ----------
    format : a key of READERS
    paths : one file per class (fasta_classes), sequences and table (fasta_table), else one file
    options : the labels and columns that are expected

    Raises
    ------
    UserError
        One line: file, line, what was found, what is wanted.
    """
    examples = list(READERS[format](paths, options))
    if not examples:
        raise UserError(f"{paths[0]}: has no examples, wanted at least one")
    for example in examples:
        if len(example.codes) < options.min_length:
            raise UserError(
                f"{example.where}: the sequence has {len(example.codes)} bases, wanted at least "
                f"{options.min_length}"
            )
    labels = encode_labels(examples, options)
    check_several_classes(paths[0], labels, options)
    names = tuple(e.name for e in examples if e.name is not None)
    return from_codes([e.codes for e in examples], labels, names or None)


def encode_labels(examples: Sequence[Example], options: ReadOptions) -> np.ndarray:
    """Labels as numbers: see `LabelledSequences.labels`."""
    if options.kind == "regression":
        return np.array([_number(e) for e in examples], np.float32)
    index = {name: number for number, name in enumerate(options.classes)}
    if options.kind == "multilabel":
        labels = np.zeros((len(examples), len(index)), np.int64)
        for row, example in enumerate(examples):
            for name in filter(None, example.label.split(";")):
                labels[row, _class(example, name.strip(), index)] = 1
        return labels
    return np.array([_class(e, e.label, index) for e in examples], np.int64)


def _class(example: Example, name: str, index: dict[str, int]) -> int:
    if name not in index and re.fullmatch(
        r"\d+\.0+", name
    ):  # whole numbers as a spreadsheet has them
        name = name.partition(".")[0]
    if name not in index:
        found = f"the label {name!r}" if name else "no label"
        wanted = ", ".join(index) if len(index) <= 12 else f"one of the {len(index)} classes"
        raise UserError(f"{example.where}: has {found}, wanted {wanted}")
    return index[name]


def _number(example: Example) -> float:
    try:
        value = float(example.label)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise UserError(f"{example.where}: has the label {example.label!r}, wanted a number")
    if abs(value) > _MAX_VALUE:
        raise UserError(
            f"{example.where}: has the label {example.label!r}, wanted at most {_MAX_VALUE:g} in "
            "size: squares of more are beyond float32"
        )
    return value


def check_several_classes(path: Path, labels: np.ndarray, options: ReadOptions) -> None:
    """Refuse a split with one label or value: it can neither be learned from nor scored."""
    if options.kind == "regression" and labels.min() == labels.max():
        raise UserError(
            f"{path}: all {len(labels)} examples have the value {labels[0]:g}, wanted several"
        )
    if options.kind in ("binary", "multiclass") and labels.min() == labels.max():
        raise UserError(
            f"{path}: all {len(labels)} examples have the label "
            f"{options.classes[labels[0]]!r}, wanted at least two of {', '.join(options.classes)}"
        )


def parse_sequence(where: str, letters: bytes) -> np.ndarray:
    """Base codes of a sequence in letters, or of k-mers with spaces between."""
    letters = letters.strip()
    if b" " in letters:
        letters = _join_kmers(where, letters)
    codes = BYTE_CLASSES[np.frombuffer(letters, np.uint8)]
    if codes.size and codes.max() > _IUPAC:
        at = int((codes > _IUPAC).argmax())
        raise UserError(
            f"{where}: letter {at + 1} of the sequence is {chr(letters[at])!r}, wanted A C G T U N "
            f"or another IUPAC nucleotide code"
        )
    return np.minimum(codes, 4)


def _join_kmers(where: str, letters: bytes) -> bytes:
    """The sequence of overlapping k-mers, each of which must continue the one before."""
    k = letters.index(b" ")
    table = np.frombuffer(letters + b" " * (-(len(letters) + 1) % (k + 1) + 1), np.uint8)
    table = table.reshape(-1, k + 1)
    if (len(letters) + 1) % (k + 1) or (table[:, :k] == 32).any() or (table[:, k] != 32).any():
        raise UserError(
            f"{where}: the k-mers have different lengths (the first has {k} bases), wanted "
            f"overlapping k-mers with one space between"
        )
    differs = (table[1:, : k - 1] != table[:-1, 1:k]).any(axis=1)
    if differs.any():
        at = int(differs.argmax())
        first, second = table[at, :k].tobytes().decode(), table[at + 1, :k].tobytes().decode()
        raise UserError(
            f"{where}: k-mer {at + 2} is {second!r}, which does not continue {first!r} before it, "
            f"wanted overlapping k-mers"
        )
    return table[0, :k].tobytes() + table[1:, k - 1].tobytes()


def table_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """(line, the fields of these columns) of each row of a table with a header line; see
    `parse_table`."""
    return parse_table(path, io.StringIO(read_text(path, _WANTED)), columns)


def parse_table(
    path: Path, lines: Iterator[str], columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, list[str]]]:
    """(line, the fields of these columns) of each row of a table with a header line.

    Fields are separated by what the header line has, tabs or commas. Other columns are ignored,
    and so are rows whose fields are all blank. A column is found in any case where none has its
    name exactly.

    Parameters
    ----------
    lines : of the table, with their ends
    columns : wanted ones
    optional : more columns, whose fields are "" where the table has them not

    Raises
    ------
    UserError
        If a column is missing, or a row has more or fewer fields than the header.
    """
    # The csv module's limit is 131,072 letters per field, a sequence of 18,000 bases in 6-mers.
    csv.field_size_limit(_MAX_FIELD)
    blank = 0  # lines in front of the header
    while (head := next(lines, "")) and not head.strip():
        blank += 1
    rows = csv.reader(chain([head], lines), delimiter="\t" if "\t" in head else ",")
    try:
        header = _as_wanted([name.strip() for name in next(rows, [])], (*columns, *optional))
        missing = [name for name in columns if name not in header]
        if missing:
            # A quoted name may hold line breaks.
            found = " ".join(", ".join(header).split()) or "nothing"
            raise UserError(
                f"{path}: line {blank + 1}: found the columns {found[:80]}, wanted "
                f"{', '.join(columns)}"
            )
        indices = [header.index(name) for name in columns]
        further = [header.index(name) if name in header else -1 for name in optional]
        for row in rows:
            if not any(field.strip() for field in row):
                continue
            if len(row) != len(header):
                raise UserError(
                    f"{path}: line {blank + rows.line_num}: found {len(row)} fields, wanted "
                    f"{len(header)} as in the header"
                )
            fields = [row[i] for i in indices]
            yield blank + rows.line_num, [*fields, *(row[i] if i >= 0 else "" for i in further)]
    except csv.Error as error:
        raise UserError(f"{path}: line {blank + rows.line_num}: {error}") from error


def _as_wanted(header: list[str], columns: Sequence[str]) -> list[str]:
    """The header, with wanted names in the case that is wanted, unless they are in it so."""
    spelled = {name.lower(): name for name in columns if name not in header}
    return [spelled.pop(name.lower(), name) for name in header]


def _from_table(paths: Sequence[Path], options: ReadOptions) -> Iterator[Example]:
    (path,) = paths
    for line, (letters, label) in table_rows(path, (options.sequence_column, options.label_column)):
        where = f"{path}: line {line}"
        yield Example(where, parse_sequence(where, letters.encode()), label.strip())


def _from_fasta_classes(paths: Sequence[Path], options: ReadOptions) -> Iterator[Example]:
    for path, label in zip(paths, options.classes, strict=True):
        for name, codes in read_sequences(path):
            yield Example(f"{path}: {name}", codes, label, name)


def _from_fasta_table(paths: Sequence[Path], options: ReadOptions) -> Iterator[Example]:
    path, table = paths
    labels: dict[str, str] = {}
    for line, (name, label) in table_rows(table, ("name", options.label_column)):
        if name in labels:
            raise UserError(f"{table}: line {line}: {name!r} is listed twice")
        labels[name] = label.strip()
    seen: set[str] = set()
    for name, codes in read_sequences(path):
        if name not in labels or name in seen:
            problem = "is listed twice" if name in seen else f"has no label in {table}"
            raise UserError(f"{path}: {name}: {problem}")
        seen.add(name)
        yield Example(f"{path}: {name}", codes, labels[name], name)
    for name in labels:
        if name not in seen:
            raise UserError(f"{table}: {name!r} has no sequence in {path}")


def _from_fasta_header(paths: Sequence[Path], options: ReadOptions) -> Iterator[Example]:
    (path,) = paths
    for name, codes in read_sequences(path):
        yield Example(
            f"{path}: {name}", codes, name.rpartition("|")[2] if "|" in name else "", name
        )


def _from_folders(paths: Sequence[Path], options: ReadOptions) -> Iterator[Example]:
    (path,) = paths
    for label in options.classes:
        folder = path / label
        if not folder.is_dir():
            raise UserError(f"{folder}: does not exist, wanted a folder for each class")
        for file in sorted(folder.glob("*.txt*"), key=lambda f: (len(f.name), f.name)):
            letters = read_text(file, _WANTED).strip()
            yield Example(str(file), parse_sequence(str(file), letters.encode()), label, file.stem)


READERS: dict[str, Callable[[Sequence[Path], ReadOptions], Iterator[Example]]] = {
    "table": _from_table,
    "fasta_classes": _from_fasta_classes,
    "fasta_table": _from_fasta_table,
    "fasta_header": _from_fasta_header,
    "folders": _from_folders,
}
