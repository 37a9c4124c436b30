"""One progress bar over the optimiser steps of a run."""

import sys

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from cmgems.callbacks.throughput import Throughput
from cmgems.callbacks.training_log import TrainingLog
from cmgems.training.module import COMMON_MASKS, Pretraining


class StepProgress(ProgressBar):
    """Steps done, time left, stage, losses and speed."""

    def __init__(self, log: TrainingLog, throughput: Throughput):
        super().__init__()
        self.log_callback, self.throughput = log, throughput
        self._bar: tqdm | None = None
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def on_train_start(self, trainer: L.Trainer, module: Pretraining) -> None:
        if self._enabled and trainer.is_global_zero:
            total, done = trainer.max_steps, trainer.global_step
            self._bar = tqdm(
                total=total,
                initial=done,
                desc="pretrain",
                unit="step",
                # into a log file, a line now and then
                mininterval=0.1 if sys.stderr.isatty() else 30,
            )
            self._show(module)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: Pretraining, outputs, batch, batch_idx: int
    ) -> None:
        if self._bar is None:
            return
        self._bar.update(trainer.global_step - self._bar.n)
        if trainer.global_step % self.log_callback.every == 0:
            self._show(module)

    def _show(self, module: Pretraining) -> None:
        figures = {"mask": module.strategy}
        if self.log_callback.last_logged:
            figures["loss"] = f"{self.log_callback.last_logged['loss']:.3f}"
        if COMMON_MASKS[0] in module.validated:
            figures["val ppl"] = f"{module.validated[COMMON_MASKS[0]].perplexity:.1f}"
        if self.throughput.tokens_per_second:
            figures["tok/s"] = f"{self.throughput.tokens_per_second:,.0f}"
        self._bar.set_postfix(figures, refresh=False)

    def teardown(self, trainer: L.Trainer, module: Pretraining, stage: str) -> None:
        self._close()

    def on_exception(self, trainer: L.Trainer, module: Pretraining, exception) -> None:
        self._close()  # before somebody writes the reason

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
