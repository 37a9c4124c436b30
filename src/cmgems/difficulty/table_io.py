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
from pathlib import Path

import numpy as np

from cmgems import __version__
from cmgems.difficulty.table import MAX_K, MIN_K, PmiTable, rank_scores
from cmgems.errors import UserError
from cmgems.utils.files import atomic_write
from cmgems.utils.progress import progress_bar

TITLE = "# cmgems PMI table, version 1"
COLUMNS = ("kmer", "count", "pmi", "npmi", "rank")
BASES = "ATCG"
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
_NO_SCORE = ("", "nan", "na", "none", "null", "-")


def decode_kmers(ids: np.ndarray, k: int) -> np.ndarray:
    """The k-mers with these ids, as bytes, S{k} [n]."""
    letters = np.empty((len(ids), k), np.uint8)
    bases = np.frombuffer(BASES.encode(), np.uint8)
    for i in range(k):
        letters[:, i] = bases[ids >> 2 * (k - 1 - i) & 3]
    return letters.view(f"S{k}").ravel()


def all_kmers(k: int) -> np.ndarray:
    """All k-mers in the order of their ids, as bytes, S{k} [4**k]."""
    return decode_kmers(np.arange(4**k), k)


def write_table(table: PmiTable, path: str | os.PathLike) -> None:
    """Write a table as tab-separated text, rank 1 first, with its provenance in comment lines."""
    order = np.argsort(table.rank)
    with atomic_write(path) as handle, progress_bar(len(order), "writing", " k-mers") as advance:
        handle.write(f"{TITLE}\n")
        for key, value in _provenance(table).items():
            handle.write(f"# {key}: {value}\n")
        handle.write("\t".join(COLUMNS) + "\n")
        for start in range(0, len(order), _ROWS):
            rows = order[start : start + _ROWS]
            numbers = (table.counts, table.pmi, table.npmi, table.rank)
            kmers = decode_kmers(rows, table.k).astype(str)
            columns = [kmers.tolist(), *(n[rows].tolist() for n in numbers)]
            handle.writelines(
                f"{w}\t{f}\t{p!r}\t{n!r}\t{r}\n" for w, f, p, n, r in zip(*columns, strict=True)
            )
            advance(len(rows))


def _provenance(table: PmiTable) -> dict:
    known = {
        "k": table.k,
        "definition": table.definition,
        "min_count": table.min_count,
        "both_strands": "yes" if table.both_strands else "no",
        "genome": table.genome_name,
        "genome_sha256": table.genome_sha256,
    }
    return {**known, "cmgems": __version__, "numpy": np.__version__, **table.notes}


def read_table(path: str | os.PathLike, k: int | None = None) -> PmiTable:
    """A PMI table from a file, ours or a TSV or CSV with a score or a rank column.

    Raises
    ------
    UserError
        With file and line, if it is no table of all k-mers, or of another k than is wanted.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            lines = handle.read().splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; wanted: a PMI table (TSV or CSV)") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text; wanted: a PMI table (TSV or CSV)") from error
    comments = [line for line in lines if line.startswith("#")]
    first = next((i for i, line in enumerate(lines) if line and not line.startswith("#")), None)
    if first is None:
        raise UserError(f"{path}: is empty; wanted: a PMI table (TSV or CSV)")
    delimiter = "\t" if "\t" in lines[first] else ","
    rows = csv.reader(lines[first:], delimiter=delimiter)
    table = None
    try:
        for number, row in enumerate(rows, first + 1):
            if table is None:
                table = _Rows(path, _Columns(path, row), k)
            elif row:
                table.add(number, row)
    except csv.Error as error:
        raise UserError(f"{path}: line {first + rows.line_num}: {error}") from error
    return table.finish(comments)


class _Columns:
    """Which column holds what."""

    def __init__(self, path: Path, header: list[str]):
        names = [name.strip().lower() for name in header]
        self.count = len(names)
        self.kmer = _first(names, _KMER_NAMES)
        self.rank = _first(names, ("rank",))
        self.score = _first(names, _SCORE_NAMES)
        self.pmi = _first(names, ("pmi",))
        self.counts = _first(names, ("count", "counts", "frequency", "freq"))
        if self.kmer is None or (self.rank is None and self.score is None):
            raise UserError(
                f"{path}: has columns {', '.join(header)}; wanted: a header line with `kmer` and"
                " `rank` or `npmi` (also: score, pmi)"
            )


def _first(names: list[str], wanted: tuple[str, ...]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


class _Rows:
    """Fills the arrays of a table, row by row."""

    def __init__(self, path: Path, columns: _Columns, k: int | None):
        self.path, self.columns, self.wanted_k = path, columns, k
        self.k: int | None = None

    def add(self, number: int, row: list[str]) -> None:
        columns = self.columns
        if len(row) != columns.count:
            self._refuse(number, f"has {len(row)} columns, the header has {columns.count}")
        word = row[columns.kmer].strip().upper()
        if self.k is None:
            self._begin(number, word)
        index = self._index(number, word)
        if self.line[index]:
            self._refuse(number, f"k-mer {word} is there twice, first in line {self.line[index]}")
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
        if self.k is None:
            raise UserError(f"{self.path}: has a header and no k-mers; wanted: a PMI table")
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
        said = {}
        for comment in comments:
            key, colon, value = comment[1:].partition(":")
            if colon:
                said[key.strip()] = value.strip()
        ours = bool(comments) and comments[0] == TITLE
        if ours and not np.array_equal(self.rank, rank_scores(self.npmi)):
            raise UserError(f"{self.path}: the ranks do not follow from npmi; make the table again")
        for key in ("k", "cmgems", "numpy"):
            said.pop(key, None)
        min_count = said.pop("min_count", "0")
        if ours and not min_count.isdecimal():
            raise UserError(f"{self.path}: min_count {min_count!r}; wanted: a whole number")
        return PmiTable(
            self.k,
            said.pop("definition", "foreign") if ours else "foreign",
            self.counts,
            self.pmi,
            self.npmi,
            self.rank,
            min_count=int(min_count) if ours else 0,
            both_strands=said.pop("both_strands", "no") == "yes",
            genome_name=said.pop("genome", ""),
            genome_sha256=said.pop("genome_sha256", ""),
            notes=said,
        )

    def _begin(self, number: int, word: str) -> None:
        k = len(word)
        if self.wanted_k is not None and k != self.wanted_k:
            self._refuse(number, f"holds a {k}-mer; wanted: k = {self.wanted_k}")
        if not MIN_K <= k <= MAX_K:
            self._refuse(number, f"holds a k-mer of {k} bases; wanted: {MIN_K} to {MAX_K}")
        self.k = k
        self.line = np.zeros(4**k, np.int64)
        self.rank = np.zeros(4**k, np.int32)
        self.counts = np.full(4**k, -1, np.int64)
        self.pmi = np.full(4**k, np.nan)
        self.npmi = np.full(4**k, np.nan)

    def _index(self, number: int, word: str) -> int:
        if len(word) != self.k:
            self._refuse(number, f"holds {word!r}, the lines before hold {self.k}-mers")
        index = 0
        for base in word:
            code = BASES.find(base)
            if code < 0:
                self._refuse(number, f"holds {word!r}; wanted: a k-mer of A, C, G and T")
            index = 4 * index + code
        return index

    def _integer(self, number: int, text: str, low: int, high: int, what: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            self._refuse(number, f"{what} {text!r}; wanted: a whole number from {low} to {high}")
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
            self._refuse(number, f"score {text!r}; wanted: a finite number, or nan for no score")
        return value

    def _check_permutation(self) -> None:
        order = np.argsort(self.rank, kind="stable")
        twice = np.flatnonzero(np.diff(self.rank[order]) == 0)
        if len(twice):
            a, b = order[twice[0]], order[twice[0] + 1]
            raise UserError(
                f"{self.path}: lines {self.line[a]} and {self.line[b]} both have rank"
                f" {self.rank[a]}; wanted: each rank from 1 to {4**self.k} once"
            )

    def _refuse(self, number: int, what: str) -> None:
        raise UserError(f"{self.path}: line {number}: {what}")
