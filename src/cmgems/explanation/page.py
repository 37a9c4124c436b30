"""Explanations as one HTML page that needs nothing else: no script, no font, no network."""

from html import escape
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cmgems.explanation.explainer import Explainer, Explanation
from cmgems.explanation.logo import draw_logo, logo_figure
from cmgems.explanation.summary import Summary, middle
from cmgems.genome.alphabet import BASES
from cmgems.utils.html import html_page, html_table, inline_svg

POSITION = "bases from the middle"


def page(explainer: Explainer, summary: Summary, record: dict[str, Any], shown: int) -> str:
    """The whole page.

    Parameters
    ----------
    record : what was explained and how, in words
    shown : bases in the middle of each sequence that are drawn
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
    sections.append(f"<h2>The first {len(summary.first)} sequences</h2>")
    for name, each in summary.first:
        sections += [
            f"<h3>{escape(name)}</h3>",
            f'<p class="note">{_numbers(each)}</p>',
            inline_svg(_sequence_figure(explainer, each, shown)),
        ]
        if each.dependencies is not None:
            sections.append(inline_svg(_dependency_figure(each.dependencies)))
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
    span = len(dependencies_SS)
    first = -(span // 2)
    extent = (first - 0.5, first + span - 0.5, first + span - 0.5, first - 0.5)
    figure = Figure(figsize=(5.2, 4.4), layout="constrained")
    axes = figure.subplots()
    shade = axes.imshow(dependencies_SS, "magma_r", extent=extent, interpolation="nearest")
    axes.set_xlabel("base that answers, from the middle", fontsize=8)
    axes.set_ylabel("base that is changed", fontsize=8)
    axes.tick_params(labelsize=7)
    bar = figure.colorbar(shade, ax=axes)
    bar.set_label("bits of log-odds", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure
