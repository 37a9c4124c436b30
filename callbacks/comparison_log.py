"""What TensorBoard needs to compare a run with others."""

from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from cmgems.callbacks.throughput import Throughput
from cmgems.callbacks.training_log import TrainingLog, is_final
from cmgems.config.schema import Experiment
from cmgems.runs.tensorboard import BY_TOKENS, COMPARED, custom_scalars_layout, hparams_summary


class ComparisonLog(L.Callback):
    """Writes the page of charts and the run's hyper-parameters once, and at each validation the
    metrics that compare across runs a second time, against thousands of tokens.

    TensorBoard drops what has a later step than the one at which a run resumes, and numbers of
    thousands of tokens are later steps: a resumed run writes these metrics again, from its
    checkpoint.
    """

    def __init__(self, experiment: Experiment, log: TrainingLog, throughput: Throughput):
        self.experiment, self.training_log, self.throughput = experiment, log, throughput
        self._by_tokens: list[list[float]] = []  # thousands of tokens, then the metrics

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        for writer in _writers(trainer):
            if trainer.global_step:
                for row in self._by_tokens:
                    if row[0] > trainer.global_step:
                        _write(writer, row)
            else:
                writer.add_custom_scalars(custom_scalars_layout(self.experiment))
                hparams = hparams_summary(self.experiment)
                # torch annotates the file writer as None
                writer.file_writer.add_summary(hparams)  # type: ignore[attr-defined]

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if is_final(trainer):
            return
        metrics = []
        for tag, _ in COMPARED:
            mask, _, name = tag.removeprefix("validation_").partition("/")
            metrics.append(self.training_log.final[mask][name])
        self._by_tokens.append([self.throughput.tokens // 1000, *metrics])
        for writer in _writers(trainer):
            _write(writer, self._by_tokens[-1])

    def state_dict(self) -> dict[str, Any]:
        return {"by_tokens": self._by_tokens}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._by_tokens = state["by_tokens"]


def _writers(trainer: L.Trainer) -> list[SummaryWriter]:
    """TensorBoard's writers; none but on the first rank."""
    if not trainer.is_global_zero:
        return []
    loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return [logger.experiment for logger in loggers]


def _write(writer: SummaryWriter, row: list[float]) -> None:
    for (tag, _), value in zip(COMPARED, row[1:], strict=True):
        writer.add_scalar(f"{BY_TOKENS}/{tag}", value, int(row[0]))
