"""The curves of a comparison as one picture, for documents that show no HTML."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cmgems.comparison.compare import (
    HIDDEN_BITS,
    Comparison,
    Measure,
    is_curve,
    matrix,
    tokens_per_step,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's, told apart by colour-blind readers too; black is the baseline's.
COLOURS = [
    "#000000",
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#d55e00",
    "#0072b2",
    "#cc79a7",
    "#8a7d00",
    "#7b4ab3",
    "#888888",
]
ACROSS = 2  # charts beside each other


def colours(found: Comparison) -> dict[str, str]:
    """Of each group, by label."""
    return {
        group.label: COLOURS[number % len(COLOURS)] for number, group in enumerate(found.groups)
    }


def curves(found: Comparison) -> list[Measure]:
    """Measures that are known at more than one step."""
    return [measure for measure in found.rows if is_curve(found.baseline, measure)]


def reference(found: Comparison, measure: Measure) -> Mapping[str, Any] | None:
    """The best Markov model, where it is measured like the runs."""
    its = found.baseline.runs[0].results["reference"]
    return its if measure == HIDDEN_BITS and its else None


def picture(found: Comparison) -> "Figure":
    """Mean over seeds against tokens; the band reaches from the lowest to the highest seed."""
    from matplotlib.figure import Figure

    shown = curves(found)
    rows = -(-len(shown) // ACROSS)
    figure = Figure(figsize=(11, 3.6 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, ACROSS, squeeze=False).ravel()
    for measure, its in zip(shown, axes, strict=False):
        _draw(found, measure, its)
    for its in axes[len(shown) :]:
        its.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return figure


def _draw(found: Comparison, measure: Measure, axes: "Axes") -> None:
    colour = colours(found)
    for group in found.groups:
        steps, curves_RT = matrix(group, measure)
        # The figures before training dwarf the others.
        first = 1 if len(steps) > 3 else 0
        tokens, values_RT = steps[first:] * tokens_per_step(group) / 1e6, curves_RT[:, first:]
        mean, low, high = values_RT.mean(0), values_RT.min(0), values_RT.max(0)
        axes.fill_between(tokens, low, high, color=colour[group.label], alpha=0.15, linewidth=0)
        axes.plot(tokens, mean, color=colour[group.label], linewidth=1.4, label=group.label)
    if markov := reference(found, measure):
        axes.axhline(markov["markov_bits"], color="#b3261e", linestyle="--", linewidth=1)
        name = f"best Markov model (order {markov['markov_order']})"
        axes.annotate(name, (0.99, markov["markov_bits"]), xycoords=("axes fraction", "data"),
                      ha="right", va="bottom", fontsize=8, color="#b3261e")  # fmt: skip
    unit = f", {measure.unit}" if measure.unit not in measure.title else ""
    axes.set_title(f"{measure.title}{unit}", fontsize=10)
    axes.set_xlabel("million tokens", fontsize=9)
    axes.grid(color="#e8e8e8")
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
