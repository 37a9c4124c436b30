"""What the run's difficulty table looks like, in TensorBoard, before the first step."""

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from cmgems.difficulty.table import PmiTable


class PmiPlots(L.Callback):
    """Ranks, extremes and PMI against frequency of the k-mers of the table that masking uses."""

    def __init__(self, table: PmiTable):
        self.table = table

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.global_step:
            return  # a resumed run has them
        from cmgems.difficulty.plots import figures

        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                for name, figure in figures(self.table).items():
                    logger.experiment.add_figure(f"pmi/{name}", figure)
