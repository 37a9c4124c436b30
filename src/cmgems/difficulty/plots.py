"""Plots of a PMI table: what its k-mers are, and which are masked first."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cmgems.difficulty.table import PmiTable, all_kmers
from cmgems.utils.escapes import plot_text
from cmgems.utils.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colors that people with color blindness can distinguish (Okabe and Ito).
_KINDS = (("other", "#999999"), ("low complexity", "#E69F00"), ("with CpG", "#0072B2"))
_NUM_EXTREMES = 20  # k-mers that are listed at each end
_MAX_POINTS = 1 << 16


def classify_kmers(k: int) -> np.ndarray:
    """uint8 [4**k]: 1 for k-mers of low complexity, 2 for those with a CpG, 0 for the others.

    Low complexity: a repeat of one or two bases (ATATAT), or a base composition with an entropy
    below 1 bit (AAAATT).
    """
    letters = all_kmers(k).view(np.uint8).reshape(-1, k)
    p = np.stack([(letters == base).mean(axis=1) for base in b"ACGT"])
    entropy = -np.sum(p * np.log2(p, where=p > 0, out=np.zeros_like(p)), axis=0)
    repeat = np.all(letters[:, 2:] == letters[:, :-2], axis=1) if k > 3 else np.zeros(4**k, bool)
    cpg = np.any((letters[:, :-1] == ord("C")) & (letters[:, 1:] == ord("G")), axis=1)
    return np.where(cpg, 2, np.where(repeat | (entropy < 1), 1, 0)).astype(np.uint8)


def figures(table: PmiTable) -> "dict[str, Figure]":
    """Name -> figure, for PNG files and TensorBoard; fewer where counts or scores are unknown."""
    kind = classify_kmers(table.k)
    by_name = {"rank_distribution": _rank_distribution(table, kind), "extremes": _extremes(table)}
    if (table.counts >= 0).all() and not np.isnan(table.npmi).all():
        by_name["pmi_against_frequency"] = _against_frequency(table, kind)
    return by_name


def write_plots(table: PmiTable, folder: Path) -> list[Path]:
    """Write the figures as PNG files, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures(table).items():
        path = folder / f"{name}.png"
        with atomic_write(path, "wb") as handle:
            figure.savefig(handle, format="png", dpi=120)
        paths.append(path)
    return paths


def _title(table: PmiTable) -> str:
    name = table.genome_name or "table from elsewhere"
    strands = ", both strands" if table.both_strands else ""
    return f"{plot_text(name[:60])}, k = {table.k}, {table.definition}{strands}"


def _figure(title: str, width: float = 8.0, height: float = 5.0) -> "Figure":
    from matplotlib.figure import Figure  # heavy; without pyplot: no window system, no state

    figure = Figure((width, height), layout="constrained")
    figure.suptitle(title, fontsize=10)
    return figure


def _against_frequency(table: PmiTable, kind: np.ndarray) -> "Figure":
    figure = _figure(f"Normalized PMI against frequency\n{_title(table)}")
    axes = figure.add_subplot()
    scored = np.flatnonzero(~np.isnan(table.npmi))
    if len(scored) > _MAX_POINTS:
        scored = scored[:: -(-len(scored) // _MAX_POINTS)]
    for value, (name, color) in enumerate(_KINDS):
        chosen = scored[kind[scored] == value]
        axes.scatter(
            table.counts[chosen],
            table.npmi[chosen],
            s=6,
            alpha=0.6,
            linewidths=0,
            color=color,
            label=f"{name} ({len(chosen):,})",
        )
    axes.set(xscale="log", xlabel="count in the genome", ylabel="NPMI (nats)")
    axes.axhline(0, color="black", linewidth=0.5)
    axes.legend(fontsize=8, loc="best")
    return figure


def _rank_distribution(table: PmiTable, kind: np.ndarray) -> "Figure":
    """The score along the ranks; below it, the kinds of k-mers in each tenth of the ranks."""
    figure = _figure(
        f"Scores and kinds of k-mers in the order of masking\n{_title(table)}", height=6
    )
    score, kinds = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    order = np.argsort(table.rank)
    percent = 100 * np.arange(len(order)) / len(order)
    thinned = slice(None, None, -(-len(order) // _MAX_POINTS))
    score.plot(percent[thinned], table.npmi[order][thinned], color="black")
    score.axhline(0, color="black", linewidth=0.5)
    score.set_ylabel("NPMI (nats)")
    unscored = int(np.isnan(table.npmi).sum())
    if 0 < unscored < len(order):
        score.axvspan(100 - 100 * unscored / len(order), 100, color="#DDDDDD")
        score.set_title(f"shaded: {unscored:,} without a score", fontsize=8, loc="right")
    tenths = (table.rank.astype(np.int64) - 1) * 10 // len(order)
    sizes = np.bincount(tenths, minlength=10).clip(1)
    bottom = np.zeros(10)
    for value in (2, 1, 0):
        percent_of_tenth = 100 * np.bincount(tenths[kind == value], minlength=10) / sizes
        kinds.bar(np.arange(5, 100, 10), percent_of_tenth, 9, bottom=bottom, color=_KINDS[value][1])
        bottom += percent_of_tenth
    kinds.set(xlabel="rank, % of all k-mers (left: masked first)", ylabel="k-mers of the tenth (%)")
    kinds.set_xticks(range(0, 101, 10))
    _legend(figure)
    return figure


def _legend(figure: "Figure") -> None:
    from matplotlib.patches import Patch  # heavy

    patches = [Patch(color=color, label=name) for name, color in _KINDS]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), fontsize=8)


def _extremes(table: PmiTable) -> "Figure":
    """The first and the last k-mers that have a score, with their counts."""
    order = np.argsort(table.rank)
    scored = order[~np.isnan(table.npmi[order])]
    chosen = scored if len(scored) else order
    number = min(_NUM_EXTREMES, len(chosen))
    height = 1.5 + 0.2 * number
    figure = _figure(f"First and last k-mers in the order of masking\n{_title(table)}", 9, height)
    first, last = figure.subplots(1, 2)
    for axes, ids in ((first, chosen[:number]), (last, chosen[-number:])):
        _bars(axes, table, ids, has_scores=len(scored) > 0)
    first.set_title("first (with counts)", fontsize=9)
    last.set_title("last with a score", fontsize=9)
    _legend(figure)
    return figure


def _bars(axes: "Axes", table: PmiTable, ids: np.ndarray, has_scores: bool) -> None:
    """One bar per k-mer: its score, or the negative rank of a table without scores."""
    kmers, kind = all_kmers(table.k), classify_kmers(table.k)
    values = table.npmi[ids] if has_scores else -table.rank[ids].astype(float)
    positions = np.arange(len(ids))
    axes.barh(positions, values, color=[_KINDS[kind[i]][1] for i in ids])
    axes.set_yticks(positions, [kmers[i].decode() for i in ids], fontsize=7, family="monospace")
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.5)
    axes.set_xlabel("NPMI (nats)" if has_scores else "negative rank", fontsize=8)
    for position, value, i in zip(positions, values, ids, strict=True):
        count = f"{table.counts[i]:,}" if table.counts[i] >= 0 else ""
        side = "left" if value >= 0 else "right"
        axes.annotate(
            f" {count} ", (value, position), fontsize=6, ha=side, va="center", clip_on=False
        )
    axes.margins(x=0.2)
