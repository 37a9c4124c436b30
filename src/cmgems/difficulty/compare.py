"""Two PMI tables side by side: between species, assemblies, definitions."""

from typing import NamedTuple

import numpy as np

from cmgems.difficulty.table import PmiTable
from cmgems.difficulty.table_io import all_kmers
from cmgems.errors import UserError
from cmgems.utils.text_table import text_table


class TableComparison(NamedTuple):
    """How far two tables agree on which k-mers are hard."""

    spearman: float  # of the ranks of all k-mers
    spearman_scored: float  # of those that have a score in both; nan with fewer than two
    scored: int  # how many those are
    top: dict[int, int]  # n -> k-mers that are among the top n of both
    moved: np.ndarray  # int64 [4**k], ids of the k-mers, those whose rank differs most first


def compare_tables(one: PmiTable, other: PmiTable) -> TableComparison:
    """Compare two tables of the same k.

    Raises
    ------
    UserError
        If their k differ.
    """
    if one.k != other.k:
        raise UserError(f"tables of k = {one.k} and k = {other.k}; wanted: the same k")
    a, b = one.rank.astype(np.int64), other.rank.astype(np.int64)
    both = ~np.isnan(one.npmi) & ~np.isnan(other.npmi)
    top = {n: int(np.sum((a <= n) & (b <= n))) for n in (100, 1000) if n < len(a)}
    moved = np.argsort(-np.abs(a - b), kind="stable")
    return TableComparison(
        _spearman(a, b), _spearman(a[both], b[both]), int(both.sum()), top, moved
    )


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation of two orders without ties."""
    n = len(a)
    if n < 2:
        return float("nan")
    difference = np.argsort(np.argsort(a)) - np.argsort(np.argsort(b))
    return 1 - 6 * float(np.sum(difference.astype(np.float64) ** 2)) / (n * (n * n - 1.0))


def format_comparison(
    one: PmiTable, other: PmiTable, names: tuple[str, str], moved: int = 20
) -> str:
    """A comparison as text."""
    found = compare_tables(one, other)
    lines = [
        f"{names[0]} against {names[1]}, {len(one.rank):,} {one.k}-mers",
        f"  rank correlation (Spearman)        {found.spearman:.4f}",
        f"  the same, of the {found.scored:,} with a score  {found.spearman_scored:.4f}",
    ]
    lines += [f"  in the top {n:,} of both  {m:,} ({m / n:.0%})" for n, m in found.top.items()]
    kmers = all_kmers(one.k)
    rows = [("k-mer", "rank", "->", "rank")]
    rows += [
        (kmers[i].decode(), f"{one.rank[i]:,}", "->", f"{other.rank[i]:,}")
        for i in found.moved[:moved]
    ]
    return "\n".join([*lines, "  moved most:", text_table(rows, "<>", indent="    ")])
