"""Two PMI tables side by side: of two species, assemblies or definitions."""

from typing import NamedTuple

import numpy as np

from cmgems.difficulty.table import PmiTable, all_kmers
from cmgems.errors import UserError
from cmgems.utils.text_table import text_table


class TableComparison(NamedTuple):
    """How far two tables agree on which k-mers are hard."""

    spearman: float  # of the ranks of all k-mers
    spearman_scored: float  # of the k-mers with a score in both; nan with fewer than two
    num_scored: int  # k-mers with a score in both
    top: dict[int, int]  # n -> number of k-mers that are among the top n of both
    moved: np.ndarray  # int64 [4**k], ids of the k-mers, the largest difference in rank first


def compare_tables(first: PmiTable, second: PmiTable) -> TableComparison:
    """Compare two tables of the same k.

    Raises
    ------
    UserError
        If their k differ.
    """
    if first.k != second.k:
        raise UserError(f"tables of k = {first.k} and k = {second.k}; wanted: the same k")
    a, b = first.rank.astype(np.int64), second.rank.astype(np.int64)
    scored = ~np.isnan(first.npmi) & ~np.isnan(second.npmi)
    top = {n: int(np.sum((a <= n) & (b <= n))) for n in (100, 1000) if n < len(a)}
    moved = np.argsort(-np.abs(a - b), kind="stable")
    return TableComparison(
        _spearman(a, b), _spearman(a[scored], b[scored]), int(scored.sum()), top, moved
    )


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation of two orders without ties."""
    n = len(a)
    if n < 2:
        return float("nan")
    difference = np.argsort(np.argsort(a)) - np.argsort(np.argsort(b))
    return 1 - 6 * float(np.sum(difference.astype(np.float64) ** 2)) / (n * (n * n - 1.0))


def format_comparison(
    first: PmiTable, second: PmiTable, names: tuple[str, str], num_moved: int = 20
) -> str:
    """The comparison of two tables with these names, as text."""
    comparison = compare_tables(first, second)
    lines = [
        f"{names[0]} against {names[1]}, {len(first.rank):,} {first.k}-mers",
        f"  rank correlation (Spearman)        {comparison.spearman:.4f}",
        f"  the same, of the {comparison.num_scored:,} with a score"
        f"  {comparison.spearman_scored:.4f}",
    ]
    lines += [f"  in the top {n:,} of both  {m:,} ({m / n:.0%})" for n, m in comparison.top.items()]
    kmers = all_kmers(first.k)
    rows = [("k-mer", "rank", "->", "rank")]
    rows += [
        (kmers[i].decode(), f"{first.rank[i]:,}", "->", f"{second.rank[i]:,}")
        for i in comparison.moved[:num_moved]
    ]
    return "\n".join([*lines, "  moved most:", text_table(rows, "<>", indent="    ")])
