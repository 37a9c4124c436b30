"""One progress bar over the optimizer steps of a run."""

import sys

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities.types import STEP_OUTPUT
from tqdm import tqdm

from cmgems.callbacks.throughput import Throughput
from cmgems.callbacks.training_log import TrainingLog
from cmgems.data_modules.windows import WindowBatch
from cmgems.training.module import REFERENCE_MASKS, Pretraining


class StepProgress(ProgressBar):
    """Shows steps done, time left, strategy, losses and speed."""

    def __init__(self, log: TrainingLog, throughput: Throughput):
        super().__init__()
        self.training_log, self.throughput = log, throughput
        self._bar: tqdm | None = None
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def on_train_start(self, trainer: L.Trainer, module: Pretraining) -> None:
        if self._enabled and trainer.is_global_zero:
            self._bar = tqdm(
                total=trainer.max_steps,
                initial=trainer.global_step,
                desc="pretrain",
                unit="step",
                # In a log file each update is a line.
                mininterval=0.1 if sys.stderr.isatty() else 30,
            )
            self._show(self._bar, module)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: Pretraining,
        outputs: STEP_OUTPUT,
        batch: WindowBatch,
        batch_idx: int,
    ) -> None:
        if self._bar is None:
            return
        self._bar.update(trainer.global_step - self._bar.n)
        if trainer.global_step % self.training_log.every == 0:
            self._show(self._bar, module)

    def _show(self, bar: tqdm, module: Pretraining) -> None:
        postfix = {"mask": module.strategy}
        if self.training_log.last_logged:
            postfix["loss"] = f"{self.training_log.last_logged['loss']:.3f}"
        if REFERENCE_MASKS[0] in module.validated:
            postfix["val ppl"] = f"{module.validated[REFERENCE_MASKS[0]].perplexity:.1f}"
        if self.throughput.tokens_per_second:
            postfix["tok/s"] = f"{self.throughput.tokens_per_second:,.0f}"
        bar.set_postfix(postfix, refresh=False)

    def on_train_end(self, trainer: L.Trainer, module: Pretraining) -> None:
        self._close()

    def teardown(self, trainer: L.Trainer, module: Pretraining, stage: str) -> None:
        self._close()

    def on_exception(
        self, trainer: L.Trainer, module: Pretraining, exception: BaseException
    ) -> None:
        self._close()  # before the reason is printed

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
