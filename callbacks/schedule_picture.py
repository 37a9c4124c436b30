"""The curriculum of a run as a picture: what was planned and what happened."""

import lightning as L
import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger

from cmgems.callbacks.curriculum import CurriculumCallback


class SchedulePicture(L.Callback):
    """Draws the probability of the hard strategy and the switch, in TensorBoard, at validations."""

    def __init__(self, curriculum: CurriculumCallback):
        self.curriculum = curriculum

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                picture = schedule_figure(self.curriculum, trainer.global_step)
                logger.experiment.add_figure("curriculum/schedule", picture, trainer.global_step)


def schedule_figure(callback: CurriculumCallback, done: int):
    """A matplotlib figure of the schedule, with what lies ahead of step `done` in grey."""
    from matplotlib.figure import Figure

    steps = np.linspace(0, callback.max_steps - 1, min(callback.max_steps, 500)).astype(int)
    hard = np.array([callback.hard_probability(int(step)) for step in steps])
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    names = callback.curriculum.strategies
    axes.fill_between(steps, hard, 1, step="post", color="#9ecae1", label=names[0])
    if len(names) > 1:
        axes.fill_between(steps, 0, hard, step="post", color="#e6550d", label=names[-1])
    axes.axvspan(done, callback.max_steps, color="white", alpha=0.6)
    axes.axvline(done, color="black", linewidth=1, label=f"now: step {done:,}")
    if callback.switched_at is not None:
        axes.axvline(
            callback.switched_at,
            color="black",
            linestyle="--",
            label=f"switched at step {callback.switched_at:,}",
        )
    axes.set(
        xlim=(0, callback.max_steps),
        ylim=(0, 1),
        xlabel="optimiser step",
        ylabel="share of batches",
        title=f"masking curriculum: {callback.curriculum.schedule}",
    )
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure
