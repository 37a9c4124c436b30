"""What lets TensorBoard compare this run with others."""

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from cmgems.callbacks.throughput import Throughput
from cmgems.callbacks.training_log import TrainingLog
from cmgems.config.schema import Experiment
from cmgems.runs.tensorboard import BY_TOKENS, COMPARED, layout, session_start


class ComparisonLog(L.Callback):
    """Writes the page of charts and the run's hyper-parameters, once; and at validations the
    figures that compare a second time, against thousands of tokens.

    TensorBoard forgets what has a later step than the one at which a run goes on, and thousands of
    tokens are later: so a resumed run writes these figures again, from its checkpoint.
    """

    def __init__(self, experiment: Experiment, log: TrainingLog, throughput: Throughput):
        self.experiment, self.training_log, self.throughput = experiment, log, throughput
        self._by_tokens: list[list[float]] = []  # thousands of tokens, and the figures

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        for writer in _writers(trainer):
            if trainer.global_step:
                for row in self._by_tokens:
                    if row[0] > trainer.global_step:
                        _write(writer, row)
            else:
                writer.add_custom_scalars(layout(self.experiment))
                writer.file_writer.add_summary(session_start(self.experiment))

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        figures = []
        for tag, _ in COMPARED:
            mask, _, name = tag.removeprefix("validation_").partition("/")
            figures.append(self.training_log.final[mask][name])
        self._by_tokens.append([self.throughput.tokens // 1000, *figures])
        for writer in _writers(trainer):
            _write(writer, self._by_tokens[-1])

    def state_dict(self) -> dict:
        return {"by_tokens": self._by_tokens}

    def load_state_dict(self, state: dict) -> None:
        self._by_tokens = state["by_tokens"]


def _writers(trainer: L.Trainer) -> list[SummaryWriter]:
    """TensorBoard's, on the first rank."""
    if not trainer.is_global_zero:
        return []
    return [each.experiment for each in trainer.loggers if isinstance(each, TensorBoardLogger)]


def _write(writer: SummaryWriter, row: list[float]) -> None:
    for (tag, _), figure in zip(COMPARED, row[1:], strict=True):
        writer.add_scalar(f"{BY_TOKENS}/{tag}", figure, int(row[0]))
