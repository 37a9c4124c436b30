"""Explanations as one HTML page that needs nothing else: no script, no font, no network."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cmgems.explanation.explainer import Explainer, Explanation
from cmgems.explanation.logo import draw_logo, logo_figure
from cmgems.explanation.motif_enrichment import COLUMNS, HIGH, Enrichment
from cmgems.explanation.summary import Summary, middle
from cmgems.genome.alphabet import BASES
from cmgems.utils.html import html_page, html_table, inline_svg

POSITION = "bases from the middle"
_ROWS = 20  # of the table of motifs
_MOTIFS = (
    f"How often a motif is where the mean importance of as many bases is among the highest "
    f"{HIGH:.0%}, and how often by chance: matches on either strand (p &lt; 0.0001 at a random "
    f"place), rotated within their sequences. q: p corrected for the number of motifs."
)
_LAYERS = 4  # whose attention is drawn: the first, the last, and some between them
_ATTENTION = (
    "Of the base of a row to that of a column, the sequence as it is; each head is in "
    "explanations.npz. Attention says where states are mixed from, not what decides."
)


def page(
    explainer: Explainer,
    summary: Summary,
    record: dict[str, Any],
    shown: int,
    motifs: Sequence[Enrichment] = (),
) -> str:
    """The whole page.

    Parameters
    ----------
    record : what was explained and how, in words
    shown : bases in the middle of each sequence that are drawn
    motifs : the most surprising first
    """
    sections = [
        f"<h1>What {escape(record['model'])} looks at</h1>",
        f'<p class="note">{summary.num_sequences:,} sequences of {escape(record["input"])}. '
        f"Effect of a substitution: the change of {escape(explainer.effect)}. Letters: "
        f"{escape(explainer.logo)} ({explainer.unit}). The middle {shown} bases are drawn; all are "
        f"in explanations.npz.</p>",
    ]
    if summary.mean_heights is not None:
        first, heights = middle(summary.mean_heights, shown)
        figure = logo_figure(heights, first, POSITION, f"mean, {explainer.unit}")
        sections += [
            "<h2>Mean over all sequences</h2>",
            inline_svg(figure),
            html_table(("position", *BASES, "sum"), _highest(heights, first)),
        ]
    if motifs:
        sections += [
            "<h2>Motifs</h2>",
            f'<p class="note">{_MOTIFS} {min(len(motifs), _ROWS)} of {len(motifs):,}, all of which '
            f"are in motifs.tsv.</p>",
            html_table(COLUMNS, [each.row for each in motifs[:_ROWS]]),
        ]
    if summary.mean_attention is not None:
        sections += [
            "<h2>Attention, mean over all sequences and heads</h2>",
            f'<p class="note">{_ATTENTION}</p>',
            inline_svg(_attention_figure(summary.mean_attention)),
        ]
    sections.append(f"<h2>The first {len(summary.first)} sequences</h2>")
    for name, each in summary.first:
        sections += [
            f"<h3>{escape(name)}</h3>",
            f'<p class="note">{_numbers(each)}</p>',
            inline_svg(_sequence_figure(explainer, each, shown)),
        ]
        if each.dependencies is not None:
            sections.append(inline_svg(_dependency_figure(each.dependencies)))
        if each.attention is not None and summary.mean_attention is None:
            sections.append(inline_svg(_attention_figure(each.attention)))
    return html_page("cmgems explain", sections)


def _highest(heights_L4: np.ndarray, first: int, count: int = 12) -> list[tuple[str, ...]]:
    """The positions with the highest stacks, in their order."""
    total_L = heights_L4.sum(1)
    chosen = np.sort(np.argsort(-np.abs(total_L), kind="stable")[:count])
    return [
        (f"{first + row:+d}", *(f"{x:.3f}" for x in heights_L4[row]), f"{total_L[row]:.3f}")
        for row in chosen.tolist()
    ]


def _numbers(each: Explanation) -> str:
    text = f"{len(each.codes):,} bases, score {each.score:.3f}"
    if each.gradients is not None:
        changed = each.effects != 0  # nan too
        pairs = each.effects[changed], each.gradients[changed]
        known = ~np.isnan(pairs[0])
        if known.sum() > 1 and np.ptp(pairs[0][known]) and np.ptp(pairs[1][known]):
            agreement = np.corrcoef(pairs[0][known], pairs[1][known])[0, 1]
            text += f"; effects and their first-order estimates: r = {agreement:.2f}"
    return text


def _sequence_figure(explainer: Explainer, each: Explanation, shown: int) -> Figure:
    """The logo of a sequence, over the effects of its substitutions."""
    first, heights = middle(explainer.heights(each), shown)
    maps = {"effect": each.effects, "first-order": each.gradients}
    drawn = {name: middle(x, shown)[1] for name, x in maps.items() if x is not None}
    rows = 1 + len(drawn)
    figure = Figure(figsize=(11, 1.0 + 0.75 * rows), layout="constrained")
    ratios = [1.6, *(1 for _ in drawn)]
    axes, *others = figure.subplots(rows, 1, sharex=True, height_ratios=ratios, squeeze=False)[:, 0]
    draw_logo(axes, heights, first)
    for other, (name, effects) in zip(others, drawn.items(), strict=True):
        _heat_map(other, effects, first)
        other.set_ylabel(name, fontsize=8)
    for each_axes in (axes, *others):
        each_axes.tick_params(labelsize=7)
    (axes, *others)[-1].set_xlabel(POSITION, fontsize=8)
    return figure


def _heat_map(axes: Axes, effects_L4: np.ndarray, first: int) -> None:
    """Losses red, gains blue; white where nothing changes."""
    largest = np.nanmax(np.abs(effects_L4), initial=1e-9)
    extent = (first - 0.5, first + len(effects_L4) - 0.5, 3.5, -0.5)
    shade = axes.imshow(effects_L4.T, "RdBu", aspect="auto", vmin=-largest, vmax=largest,
                        extent=extent, interpolation="nearest")  # fmt: skip
    axes.set_yticks(range(4), BASES)
    axes.figure.colorbar(shade, ax=axes, pad=0.01).ax.tick_params(labelsize=6)


def _dependency_figure(dependencies_SS: np.ndarray) -> Figure:
    """Which bases answer (columns) to changes of which (rows)."""
    figure = Figure(figsize=(5.2, 4.4), layout="constrained")
    axes = figure.subplots()
    _square_map(axes, dependencies_SS, "bits of log-odds")
    axes.set_xlabel("base that answers, from the middle", fontsize=8)
    axes.set_ylabel("base that is changed", fontsize=8)
    return figure


def _attention_figure(attention_AHSS: np.ndarray) -> Figure:
    """Some layers side by side, the mean over their heads."""
    count = len(attention_AHSS)
    layers = np.unique(np.linspace(0, count - 1, min(count, _LAYERS)).round().astype(int)).tolist()
    figure = Figure(figsize=(min(11, 1 + 3.4 * len(layers)), 3.2), layout="constrained")
    for axes, layer in zip(figure.subplots(1, len(layers), squeeze=False)[0], layers, strict=True):
        _square_map(axes, attention_AHSS[layer].mean(0), "")
        axes.set_title(f"attention layer {layer + 1} of {count}", fontsize=8)
        axes.set_xlabel("base that is attended to", fontsize=8)
    figure.axes[0].set_ylabel("base that attends, from the middle", fontsize=8)
    return figure


def _square_map(axes: Axes, map_SS: np.ndarray, label: str) -> None:
    """Bases from the middle against bases from the middle."""
    span = len(map_SS)
    first = -(span // 2)
    extent = (first - 0.5, first + span - 0.5, first + span - 0.5, first - 0.5)
    shade = axes.imshow(map_SS, "magma_r", extent=extent, interpolation="nearest")
    axes.tick_params(labelsize=7)
    bar = axes.figure.colorbar(shade, ax=axes)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
