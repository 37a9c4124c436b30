"""Plots of the run's difficulty table, in TensorBoard."""

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from cmgems.difficulty.table import PmiTable


class PmiPlots(L.Callback):
    """Plots ranks, extremes, and PMI against frequency, of the table that masking uses, once."""

    def __init__(self, table: PmiTable):
        self.table = table

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.global_step:
            return  # a resumed run has them
        from cmgems.difficulty.plots import figures  # matplotlib: slow to import

        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                for name, figure in figures(self.table).items():
                    logger.experiment.add_figure(f"pmi/{name}", figure)
