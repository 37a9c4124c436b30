"""How the curves of a comparison are told apart: one color and one dash per experiment, the same on
the page, in the plot and wherever else they are drawn."""

from collections.abc import Sequence
from typing import NamedTuple

# Okabe and Ito's, which color-blind readers can tell apart too, and more; the baseline is black.
COLORS = (
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
)
# Lengths of strokes and gaps, in widths of the line.
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 1.5), (1.5, 1.5), (6, 1.5, 1.5, 1.5))
REFERENCE_COLOR = "#b3261e"
MAX_BANDS = 6  # more bands at once mix to colors that belong to nobody


class Style(NamedTuple):
    color: str
    dash: tuple[float, ...]  # none: a solid line

    def svg_dash(self, width: float) -> str:
        """As `stroke-dasharray`, for a line of this width in pixels."""
        return " ".join(f"{length * width:g}" for length in self.dash) or "none"


def arm_styles(labels: Sequence[str]) -> dict[str, Style]:
    """By label: up to 10 have colors of their own, up to 40 no two look the same."""
    return {
        label: Style(
            COLORS[index % len(COLORS)],
            DASHES[(index + index // len(COLORS)) % len(DASHES)],
        )
        for index, label in enumerate(labels)
    }
