"""The schedule of a run as a plot."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def schedule_figure(
    names: Sequence[str],
    place: Callable[[int], float],
    max_steps: int,
    title: str,
    done: int | None = None,
    switches: Sequence[int] = (),
) -> "Figure":
    """A matplotlib figure of the share of steps that each strategy masks.

    Parameters
    ----------
    names : strategies
    place : step -> where among them it is, 0 .. their number less 1
    max_steps : of the run
    title : of the figure
    done : what lies ahead of this step is pale
    switches : steps to mark
    """
    from matplotlib.figure import Figure  # slow to import

    steps = np.linspace(0, max_steps - 1, min(max_steps, 600)).astype(int)
    places = np.array([place(int(step)) for step in steps])
    # A place between two strategies is a mixture of these two.
    shares = [np.clip(1 - np.abs(places - number), 0, 1) for number in range(len(names))]
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    colours = [f"C{number}" for number in range(len(names))]
    axes.stackplot(steps, shares, labels=names, colors=colours, alpha=0.75, step="post")
    if done is not None:
        axes.axvspan(done, max_steps, color="white", alpha=0.6)
        axes.axvline(done, color="black", linewidth=1, label=f"now: step {done:,}")
    for switch in switches:
        axes.axvline(switch, color="black", linestyle="--", label=f"switch at step {switch:,}")
    axes.set(
        xlim=(0, max_steps),
        ylim=(0, 1),
        xlabel="optimiser step",
        ylabel="share of batches",
        title=title,
    )
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure
