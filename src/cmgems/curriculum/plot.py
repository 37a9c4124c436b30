"""The schedule of a run as a plot."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def schedule_figure(
    names: Sequence[str],
    stage_position: Callable[[int], float],
    max_steps: int,
    title: str,
    done: int | None = None,
    switches: Sequence[int] = (),
) -> "Figure":
    """A matplotlib figure of the fraction of steps that each strategy masks.

    Parameters
    ----------
    names : strategies
    stage_position : step -> its position among the S strategies, 0 .. S - 1
    max_steps : of the run
    title : of the figure
    done : the steps from this one on are plotted pale
    switches : steps to mark
    """
    from matplotlib.figure import Figure  # slow to import

    steps = np.linspace(0, max_steps - 1, min(max_steps, 600)).astype(int)
    positions = np.array([stage_position(int(step)) for step in steps])
    # A position between two strategies is a mixture of these two.
    fractions = [np.clip(1 - np.abs(positions - number), 0, 1) for number in range(len(names))]
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    colors = [f"C{number}" for number in range(len(names))]
    axes.stackplot(steps, fractions, labels=names, colors=colors, alpha=0.75, step="post")
    if done is not None:
        axes.axvspan(done, max_steps, color="white", alpha=0.6)
        axes.axvline(done, color="black", linewidth=1, label=f"now: step {done:,}")
    for switch in switches:
        axes.axvline(switch, color="black", linestyle="--", label=f"switch at step {switch:,}")
    axes.set(
        xlim=(0, max_steps),
        ylim=(0, 1),
        xlabel="optimizer step",
        ylabel="fraction of batches",
        title=title,
    )
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure
