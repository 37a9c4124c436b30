"""What lets TensorBoard compare this run with others."""

from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from cmgems.callbacks.throughput import Throughput
from cmgems.callbacks.training_log import TrainingLog
from cmgems.config import Experiment
from cmgems.tensorboard_layout import BY_TOKENS, COMPARED, layout, session_start


class Comparison(L.Callback):
    """Writes the page of charts and the run's hyper-parameters, once; and at validations the
    figures that compare once more, against thousands of tokens.

    These lie in a folder of their own: TensorBoard forgets events by their step when a run goes on,
    and their steps are others.
    """

    def __init__(self, experiment: Experiment, log: TrainingLog, throughput: Throughput):
        self.experiment, self.training_log, self.throughput = experiment, log, throughput
        self._by_tokens = None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.global_step or not trainer.is_global_zero:
            return  # a resumed run has them
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_custom_scalars(layout())
                start = session_start(self.experiment)
                logger.experiment.file_writer.add_summary(start)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        step = self.throughput.tokens // 1000
        if self._by_tokens is None:
            self._by_tokens = self._writer(trainer, step)
        for tag, _ in COMPARED:
            mask, _, name = tag.removeprefix("validation_").partition("/")
            value = self.training_log.after[mask][name]
            self._by_tokens.add_scalar(f"{BY_TOKENS}/{tag}", value, step)

    def _writer(self, trainer: L.Trainer, step: int):
        from torch.utils.tensorboard import SummaryWriter

        folder = next(each.log_dir for each in trainer.loggers if hasattr(each, "log_dir"))
        return SummaryWriter(str(Path(folder) / "by_tokens"), purge_step=step)

    def teardown(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        if self._by_tokens is not None:
            self._by_tokens.close()
            self._by_tokens = None
