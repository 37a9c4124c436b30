"""The curves of a comparison as one plot, for documents that show no HTML."""

from typing import TYPE_CHECKING, NamedTuple

from cmgems.comparison.compare import Comparison
from cmgems.comparison.curves import Chart, charts
from cmgems.comparison.metrics import HIDDEN_BITS, UNIQUE_BITS, last_value, tokens_per_step
from cmgems.comparison.styles import MAX_BANDS, REFERENCE_COLOR, Style, arm_styles
from cmgems.utils.escapes import plot_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 2  # of charts
LEGEND_LETTERS = 130  # that fit next to one another below the charts, ten for a line and its gap


class Reference(NamedTuple):
    """What a model without a network has."""

    name: str
    bits: float  # per hidden base


def styles(comparison: Comparison) -> dict[str, Style]:
    return arm_styles([group.label for group in comparison.groups])


def has_bands(comparison: Comparison) -> bool:
    """Whether the range of the seeds is drawn for all curves at once."""
    return len(comparison.groups) <= MAX_BANDS


# The best Markov model of a curve is another one than that of the final values.
CURVES_NOTE = (
    "Curves and their references are on the windows of validation amid training, final values on "
    "those of validation.final_windows."
)


def references(comparison: Comparison, chart: Chart) -> list[Reference]:
    """Those on the windows of the chart: curves are on others than the ends of budgets."""
    run = comparison.baseline.runs[0]
    section = "final_all" if chart.of_budgets else "validation_reference"
    if chart == Chart(UNIQUE_BITS, of_budgets=True):
        section = "final_unique"
    elif chart.metric != HIDDEN_BITS:
        return []
    found = []
    if bits := last_value(run, f"{section}/composition_bits"):
        found.append(Reference("composition", bits))
    markov = last_value(run, f"{section}/markov_bits")
    order = run.results["reference"].get("markov_order")
    if not chart.of_budgets:
        order = last_value(run, f"{section}/markov_order")
    if markov and order:
        found.append(Reference(f"best Markov model (order {int(order)})", markov))
    return found


def plot(comparison: Comparison) -> "Figure":
    """Mean over seeds against tokens; of few experiments, the band reaches from the lowest to the
    highest seed."""
    from matplotlib.figure import Figure  # heavy: only where a plot is wanted

    drawn = charts(comparison)
    rows = -(-len(drawn) // COLUMNS)
    longest = max(len(group.label) for group in comparison.groups)
    columns = max(1, min(4, LEGEND_LETTERS // (longest + 10)))
    legend_rows = -(-len(comparison.groups) // columns)
    figure = Figure(figsize=(11, 3.6 * rows + 0.3 * legend_rows + 0.3), layout="constrained")
    all_axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for chart, axes in zip(drawn, all_axes, strict=False):
        _plot_chart(comparison, chart, axes)
    for axes in all_axes[len(drawn) :]:
        axes.set_visible(False)
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, handlelength=4
    )
    return figure


def _plot_chart(comparison: Comparison, chart: Chart, axes: "Axes") -> None:
    by_label = styles(comparison)
    for group in comparison.groups:
        steps_E, curves_RE = chart.points(group)
        tokens_E = steps_E * tokens_per_step(group) / 1e6
        color, dash = by_label[group.label]
        if has_bands(comparison):
            axes.fill_between(
                tokens_E, curves_RE.min(0), curves_RE.max(0), color=color, alpha=0.15, linewidth=0
            )
        axes.plot(
            tokens_E,
            curves_RE.mean(0),
            color=color,
            linestyle=(0, dash) if dash else "-",
            linewidth=1.4,
            marker="o" if chart.of_budgets else None,
            markersize=3.5,
            label=plot_text(group.label),
        )
    axes.set_ylim(*chart.value_range(comparison.groups))
    _mark_references(axes, references(comparison, chart))
    axes.set_title(chart.title, fontsize=10)
    axes.set_xlabel("million tokens", fontsize=9)
    axes.grid(color="#e8e8e8")
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _mark_references(axes: "Axes", shown: list[Reference]) -> None:
    """A line where it is in sight, else its name and value at the margin."""
    low, high = axes.get_ylim()
    outside = {"top": 0, "bottom": 0}  # names at each margin
    for name, bits in shown:
        if low <= bits <= high:
            axes.axhline(bits, color=REFERENCE_COLOR, linestyle="--", linewidth=1)
            position, anchor, text = (0.99, bits), ("axes fraction", "data"), name
            side = "bottom"
        else:
            side = "top" if bits > high else "bottom"
            arrow = "\u2191" if bits > high else "\u2193"
            step = 0.06 * outside[side]
            outside[side] += 1
            height = 0.985 - step if side == "top" else 0.015 + step
            position, anchor = (0.99, height), ("axes fraction", "axes fraction")
            text = f"{arrow} {name}: {bits:.3f}"
        axes.annotate(text, position, xycoords=anchor, ha="right", va=side, fontsize=8,
                      color=REFERENCE_COLOR)  # fmt: skip
