"""PMI tables as text: tab-separated, provenance in comment lines, rank 1 first.

    # cmgems PMI table, version 1
    # k: 6
    # definition: exact
    # ...
    kmer    count   pmi     npmi    rank
    CGCGCG  ...

Numbers are written so that they read back without loss; `nan` is no score. A table from elsewhere
needs a header line with a k-mer column and a column with a rank or a score.
"""

import csv
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np

from cmgems import __version__
from cmgems.difficulty.table import MAX_K, MIN_K, PmiTable, decode_kmers, rank_scores
from cmgems.errors import UserError
from cmgems.genome.alphabet import BASES
from cmgems.utils.files import atomic_write
from cmgems.utils.progress import progress_bar

TITLE = "# cmgems PMI table, version 1"
COLUMNS = ("kmer", "count", "pmi", "npmi", "rank")
_WANTED = "wanted: a PMI table (TSV or CSV)"
_ROWS = 1 << 16  # written together
_KMER_NAMES = ("kmer", "k-mer", "k_mer", "word", "token", "sequence", "ngram")
_SCORE_NAMES = (
    "npmi",
    "normalized_pmi",
    "normalised_pmi",
    "norm_pmi",
    "score",
    "pmi",
    "difficulty",
)
_COUNT_NAMES = ("count", "counts", "frequency", "freq")
_NO_SCORE = ("", "nan", "na", "none", "null", "-")


def write_table(table: PmiTable, path: str | os.PathLike[str]) -> None:
    """Write a table as tab-separated text, rank 1 first, with its provenance in comment lines."""
    order = np.argsort(table.rank)
    with atomic_write(path) as handle, progress_bar(len(order), "writing", " k-mers") as advance:
        handle.write(f"{TITLE}\n")
        for key, value in _provenance(table).items():
            handle.write(f"# {key}: {value}\n")
        handle.write("\t".join(COLUMNS) + "\n")
        for start in range(0, len(order), _ROWS):
            rows = order[start : start + _ROWS]
            kmers = decode_kmers(rows, table.k).astype(str)
            arrays = (kmers, *(a[rows] for a in (table.counts, table.pmi, table.npmi, table.rank)))
            handle.writelines(
                f"{kmer}\t{count}\t{pmi!r}\t{npmi!r}\t{rank}\n"
                for kmer, count, pmi, npmi, rank in zip(*(a.tolist() for a in arrays), strict=True)
            )
            advance(len(rows))


def _provenance(table: PmiTable) -> dict[str, object]:
    known: dict[str, object] = {
        "k": table.k,
        "definition": table.definition,
        "min_count": table.min_count,
        "both_strands": "yes" if table.both_strands else "no",
        "genome": table.genome_name,
        "genome_sha256": table.genome_sha256,
    }
    if table.skips_repeats:
        known["skips_repeats"] = "yes"
    return {**known, "cmgems": __version__, "numpy": np.__version__, **table.notes}


def read_table(path: str | os.PathLike[str], k: int | None = None) -> PmiTable:
    """A PMI table from a file: one of cmgems, or a TSV or CSV with a score or a rank column.

    Raises
    ------
    UserError
        With file and line, if it is not a table of all k-mers, or of another k than is wanted.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            lines = handle.read().splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {_WANTED}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text; {_WANTED}") from error
    comments = [line for line in lines if line.startswith("#")]
    first = next((i for i, line in enumerate(lines) if line and not line.startswith("#")), None)
    if first is None:
        raise UserError(f"{path}: is empty; {_WANTED}")
    rows = csv.reader(lines[first:], delimiter="\t" if "\t" in lines[first] else ",")
    try:
        return _read_rows(path, rows, first + 1, k).finish(comments)
    except csv.Error as error:
        raise UserError(f"{path}: line {first + rows.line_num}: {error}") from error


def _read_rows(
    path: Path, rows: Iterator[list[str]], line: int, wanted_k: int | None
) -> "_TableBuilder":
    """Read the rows, whose header is in this line."""
    columns = _Columns(path, next(rows))
    builder = None
    for number, row in enumerate(rows, line + 1):
        if not row:
            continue
        if len(row) != columns.number:
            _refuse(path, number, f"has {len(row)} columns, the header has {columns.number}")
        if builder is None:
            k = _check_k(path, number, len(row[columns.kmer].strip().upper()), wanted_k)
            builder = _TableBuilder(path, columns, k)
        builder.add(number, row)
    if builder is None:
        raise UserError(f"{path}: has a header and no k-mers; wanted: a PMI table")
    return builder


def _check_k(path: Path, line: int, k: int, wanted_k: int | None) -> int:
    if wanted_k is not None and k != wanted_k:
        _refuse(path, line, f"holds a {k}-mer; wanted: k = {wanted_k}")
    if not MIN_K <= k <= MAX_K:
        _refuse(path, line, f"holds a k-mer of {k} bases; wanted: {MIN_K} to {MAX_K}")
    return k


def _refuse(path: Path, line: int, fault: str) -> NoReturn:
    raise UserError(f"{path}: line {line}: {fault}")


class _Columns:
    """Which column holds what: an index, or None."""

    def __init__(self, path: Path, header: list[str]) -> None:
        names = [name.strip().lower() for name in header]
        self.number = len(names)
        kmer = _find_column(names, _KMER_NAMES)
        self.rank = _find_column(names, ("rank",))
        self.score = _find_column(names, _SCORE_NAMES)
        self.pmi = _find_column(names, ("pmi",))
        self.counts = _find_column(names, _COUNT_NAMES)
        if kmer is None or (self.rank is None and self.score is None):
            raise UserError(
                f"{path}: has columns {', '.join(header)}; wanted: a header line with `kmer` and"
                " `rank` or `npmi` (also: score, pmi)"
            )
        self.kmer = kmer


def _find_column(names: list[str], candidates: tuple[str, ...]) -> int | None:
    return next((names.index(name) for name in candidates if name in names), None)


class _TableBuilder:
    """Fills the arrays of a table, row by row."""

    def __init__(self, path: Path, columns: _Columns, k: int) -> None:
        self.path, self.columns, self.k = path, columns, k
        self.line = np.zeros(4**k, np.int64)  # of each k-mer; 0: not read yet
        self.rank = np.zeros(4**k, np.int32)
        self.counts = np.full(4**k, -1, np.int64)
        self.pmi = np.full(4**k, np.nan)
        self.npmi = np.full(4**k, np.nan)

    def add(self, number: int, row: list[str]) -> None:
        """Add a row, which is in line `number` of the file."""
        columns = self.columns
        word = row[columns.kmer].strip().upper()
        index = self._index(number, word)
        if self.line[index]:
            fault = f"k-mer {word} is listed twice, first in line {self.line[index]}"
            _refuse(self.path, number, fault)
        self.line[index] = number
        if columns.rank is not None:
            self.rank[index] = self._integer(number, row[columns.rank], 1, 4**self.k, "rank")
        if columns.score is not None:
            self.npmi[index] = self._score(number, row[columns.score])
        if columns.pmi is not None:
            self.pmi[index] = self._score(number, row[columns.pmi])
        if columns.counts is not None:
            self.counts[index] = self._integer(number, row[columns.counts], 0, 2**62, "count")

    def finish(self, comments: list[str]) -> PmiTable:
        """The table; refused if k-mers are missing or the ranks are not a permutation."""
        missing = np.flatnonzero(self.line == 0)
        if len(missing):
            word = decode_kmers(missing[:1], self.k)[0].decode()
            raise UserError(
                f"{self.path}: {len(missing):,} of the {4**self.k:,} {self.k}-mers are missing,"
                f" first {word}; wanted: each of them once"
            )
        if self.columns.rank is None:
            self.rank = rank_scores(self.npmi)
        self._check_permutation()
        return self._table(comments)

    def _table(self, comments: list[str]) -> PmiTable:
        notes: dict[str, str] = {}
        for comment in comments:
            key, colon, value = comment[1:].partition(":")
            if colon:
                notes[key.strip()] = value.strip()
        is_own = bool(comments) and comments[0] == TITLE
        if is_own and not np.array_equal(self.rank, rank_scores(self.npmi)):
            raise UserError(f"{self.path}: the ranks do not follow from npmi; make the table again")
        for key in ("k", "cmgems", "numpy"):
            notes.pop(key, None)
        min_count = notes.pop("min_count", "0")
        if is_own and not min_count.isdecimal():
            raise UserError(f"{self.path}: min_count {min_count!r}; wanted: a whole number")
        return PmiTable(
            self.k,
            notes.pop("definition", "foreign") if is_own else "foreign",
            self.counts,
            self.pmi,
            self.npmi,
            self.rank,
            min_count=int(min_count) if is_own else 0,
            both_strands=notes.pop("both_strands", "no") == "yes",
            skips_repeats=notes.pop("skips_repeats", "no") == "yes",
            genome_name=notes.pop("genome", ""),
            genome_sha256=notes.pop("genome_sha256", ""),
            notes=notes,
        )

    def _index(self, number: int, word: str) -> int:
        if len(word) != self.k:
            fault = f"holds {word!r}, the lines before hold {self.k}-mers"
            _refuse(self.path, number, fault)
        index = 0
        for base in word:
            code = BASES.find(base)
            if code < 0:
                _refuse(self.path, number, f"holds {word!r}; wanted: a k-mer of A, C, G and T")
            index = 4 * index + code
        return index

    def _integer(self, number: int, text: str, low: int, high: int, name: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            fault = f"{name} {text!r}; wanted: a whole number from {low} to {high}"
            _refuse(self.path, number, fault)
        return value

    def _score(self, number: int, text: str) -> float:
        text = text.strip()
        if text.lower() in _NO_SCORE:
            return math.nan
        try:
            value = float(text)
        except ValueError:
            value = math.inf
        if not math.isfinite(value):
            fault = f"score {text!r}; wanted: a finite number, or nan for no score"
            _refuse(self.path, number, fault)
        return value

    def _check_permutation(self) -> None:
        order = np.argsort(self.rank, kind="stable")
        equal = np.flatnonzero(np.diff(self.rank[order]) == 0)
        if len(equal):
            a, b = order[equal[0]], order[equal[0] + 1]
            raise UserError(
                f"{self.path}: lines {self.line[a]} and {self.line[b]} both have rank"
                f" {self.rank[a]}; wanted: each rank from 1 to {4**self.k} once"
            )
