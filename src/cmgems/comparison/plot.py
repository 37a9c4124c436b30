"""The curves of a comparison as one plot, for documents that show no HTML."""

from typing import TYPE_CHECKING, NamedTuple

from cmgems.comparison.compare import Comparison
from cmgems.comparison.metrics import (
    HIDDEN_BITS,
    Metric,
    aligned_curves,
    has_curve,
    tokens_per_step,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's, which color-blind readers can tell apart too; the baseline is black.
COLORS = [
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
REFERENCE_COLOR = "#b3261e"
COLUMNS = 2  # of charts


class MarkovReference(NamedTuple):
    bits: float  # per hidden base
    order: int

    @property
    def name(self) -> str:
        return f"best Markov model (order {self.order})"


def group_colors(comparison: Comparison) -> dict[str, str]:
    """A color per group, by label."""
    return {
        group.label: COLORS[index % len(COLORS)] for index, group in enumerate(comparison.groups)
    }


def metrics_with_curves(comparison: Comparison) -> list[Metric]:
    """Metrics that are known at more than one step."""
    return [metric for metric in comparison.results if has_curve(comparison.baseline, metric)]


def markov_reference(comparison: Comparison, metric: Metric) -> MarkovReference | None:
    """The best Markov model on the windows of the curves; those of the final values are others."""
    curves, names = comparison.baseline.runs[0].curves, ("markov_bits", "markov_order")
    if metric != HIDDEN_BITS or f"validation_reference/{names[0]}" not in curves:
        return None
    bits, order = (float(curves[f"validation_reference/{name}"].values[-1]) for name in names)
    return MarkovReference(bits, int(order))


def plot(comparison: Comparison) -> "Figure":
    """Mean over seeds against tokens; the band reaches from the lowest to the highest seed."""
    from matplotlib.figure import Figure  # heavy: only where a plot is wanted

    metrics = metrics_with_curves(comparison)
    rows = -(-len(metrics) // COLUMNS)
    figure = Figure(figsize=(11, 3.6 * rows + 0.6), layout="constrained")
    charts = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for metric, axes in zip(metrics, charts, strict=False):
        _plot_metric(comparison, metric, axes)
    for axes in charts[len(metrics) :]:
        axes.set_visible(False)
    handles, labels = charts[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return figure


def _plot_metric(comparison: Comparison, metric: Metric, axes: "Axes") -> None:
    colors = group_colors(comparison)
    for group in comparison.groups:
        steps_E, curves_RE = aligned_curves(group, metric)
        # The values before training dwarf the others.
        first = 1 if len(steps_E) > 3 else 0
        tokens_E, values_RE = steps_E[first:] * tokens_per_step(group) / 1e6, curves_RE[:, first:]
        color = colors[group.label]
        axes.fill_between(
            tokens_E, values_RE.min(0), values_RE.max(0), color=color, alpha=0.15, linewidth=0
        )
        axes.plot(tokens_E, values_RE.mean(0), color=color, linewidth=1.4, label=group.label)
    if markov := markov_reference(comparison, metric):
        axes.axhline(markov.bits, color=REFERENCE_COLOR, linestyle="--", linewidth=1)
        axes.annotate(markov.name, (0.99, markov.bits), xycoords=("axes fraction", "data"),
                      ha="right", va="bottom", fontsize=8, color=REFERENCE_COLOR)  # fmt: skip
    axes.set_title(metric.title_with_unit, fontsize=10)
    axes.set_xlabel("million tokens", fontsize=9)
    axes.grid(color="#e8e8e8")
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
