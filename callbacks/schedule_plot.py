"""A plot of the curriculum of a run: what was planned and what happened."""

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from cmgems.callbacks.curriculum import CurriculumCallback
from cmgems.curriculum.plot import schedule_figure


class SchedulePlot(L.Callback):
    """Plots the fraction of each strategy and the switches, in TensorBoard, at validations."""

    def __init__(self, curriculum: CurriculumCallback):
        self.curriculum = curriculum

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                callback, step = self.curriculum, trainer.global_step
                figure = schedule_figure(
                    callback.curriculum.strategies,
                    callback.stage_position,
                    callback.max_steps,
                    title=f"masking curriculum: {callback.curriculum.schedule}",
                    done=step,
                    switches=callback.switches,
                )
                logger.experiment.add_figure("curriculum/schedule", figure, step)
