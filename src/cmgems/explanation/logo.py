"""Sequence logos: letters as high as what they say."""

from functools import lru_cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from cmgems.genome.alphabet import BASES

COLORS = dict(zip("ATCG", ("#109648", "#d62839", "#255c99", "#f7b32b"), strict=True))
_WIDTH = 0.92  # of a letter, in bases


def draw_logo(axes: Axes, heights_L4: np.ndarray, first: int = 0) -> None:
    """Letters at each of L positions, the highest on top; negative ones hang below the axis.

    Parameters
    ----------
    heights_L4 : in the order A T C G; finite
    first : the position of the first base
    """
    for code, letter in enumerate(BASES):
        outlines = [
            _placed(letter, first + position, bottom, height)
            for position, (bottom, height) in enumerate(_stacks(heights_L4, code))
            if height
        ]
        if outlines:
            shape = Outline.make_compound_path(*outlines)
            axes.add_patch(PathPatch(shape, facecolor=COLORS[letter], linewidth=0))
    positive, negative = (np.maximum(sign * heights_L4, 0).sum(1).max() for sign in (1, -1))
    margin = 0.03 * (positive + negative or 1.0)
    axes.set_xlim(first - 0.5, first + len(heights_L4) - 0.5)
    axes.set_ylim(-negative - margin if negative else 0, positive + margin)
    axes.axhline(0, color="black", linewidth=0.6)


def logo_figure(heights_L4: np.ndarray, first: int, xlabel: str, ylabel: str) -> Figure:
    """A logo on its own."""
    figure = Figure(figsize=(min(11, 1.2 + 0.24 * len(heights_L4)), 2.4), layout="constrained")
    axes = figure.subplots()
    draw_logo(axes, heights_L4, first)
    axes.set_xlabel(xlabel, fontsize=9)
    axes.set_ylabel(ylabel, fontsize=9)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def _stacks(heights_L4: np.ndarray, code: int) -> list[tuple[float, float]]:
    """Bottom and height of one letter at each position; a height below 0 hangs from its bottom."""
    own_L = heights_L4[:, code]
    same_L4 = np.sign(heights_L4) == np.sign(own_L)[:, None]
    # The smaller ones of its side are between it and the axis; of equal ones, those of lower code.
    smaller_L4 = np.abs(heights_L4) < np.abs(own_L)[:, None]
    equal_L4 = (heights_L4 == own_L[:, None]) & (np.arange(len(BASES)) < code)
    bottom_L = (heights_L4 * (same_L4 & (smaller_L4 | equal_L4))).sum(1)
    return list(zip(bottom_L.tolist(), own_L.tolist(), strict=True))


def _placed(letter: str, position: float, bottom: float, height: float) -> Outline:
    """The outline of a letter, as wide as a base."""
    outline, box = _outline(letter), _outline(letter).get_extents()
    move = Affine2D().translate(-box.x0, -box.y0).scale(_WIDTH / box.width, height / box.height)
    return move.translate(position - _WIDTH / 2, bottom).transform_path(outline)


@lru_cache
def _outline(letter: str) -> TextPath:
    return TextPath(
        (0, 0), letter, size=1, prop=FontProperties(family="DejaVu Sans", weight="bold")
    )
