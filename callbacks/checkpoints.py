"""Checkpoints of a run: `last.ckpt` after every validation, `best.ckpt` when it is the best, and
`stepN.ckpt` where one is kept."""

import signal
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.utilities.types import STEP_OUTPUT

from cmgems.data_modules.windows import WindowBatch
from cmgems.errors import RunStopped
from cmgems.runs.folder import BEST, LAST
from cmgems.runs.io import copy_checkpoint
from cmgems.training.module import REFERENCE_MASKS, Pretraining
from cmgems.utils.signals import handle_stop_signals, let_the_next_kill, stop_signals_handled


class RunCheckpoints(L.Callback):
    """Saves at the end of a validation, after the curriculum has used it for its decision; the last
    step is validated too, wherever it lies between two validations.

    (A run that is resumed from a checkpoint made before its validation skips that validation.)
    `best.ckpt` is the one with the lowest loss under `random` masks, which are the same for all
    curricula: a copy of `last.ckpt`. A run that was killed before it was made makes it when it is
    resumed, so that it always is what the run's state says. `stepN.ckpt` is not replaced by later
    ones: other runs can be branched from it.
    """

    def __init__(self, folder: Path, kept_steps: Sequence[int] = ()):
        self.folder, self.kept_steps = folder, kept_steps
        self.best_loss = float("inf")
        self.best_step = 0

    def on_load_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        state = checkpoint["callbacks"].get(self.state_key, {})
        is_best = checkpoint["global_step"] == state.get("best_step")
        if is_best and trainer.is_global_zero and (self.folder / LAST).exists():
            copy_checkpoint(self.folder / LAST, self.folder / BEST)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: STEP_OUTPUT,
        batch: WindowBatch,
        batch_idx: int,
    ) -> None:
        if trainer.global_step == trainer.max_steps:
            trainer.should_stop = True  # before it stops, Lightning validates

    def on_validation_end(self, trainer: L.Trainer, module: Pretraining) -> None:
        if trainer.state.fn != "fit":
            return
        module.check_finite()
        loss = module.validated[REFERENCE_MASKS[0]].loss
        is_best = loss < self.best_loss
        if is_best:
            self.best_loss, self.best_step = loss, trainer.global_step
        if trainer.global_step in self.kept_steps:
            # Before the one from which the run resumes, which would never come here again.
            trainer.save_checkpoint(self.folder / f"step{trainer.global_step}.ckpt")
        trainer.save_checkpoint(self.folder / LAST)
        if is_best and trainer.is_global_zero:
            copy_checkpoint(self.folder / LAST, self.folder / BEST)

    def state_dict(self) -> dict[str, Any]:
        return {"best_loss": self.best_loss, "best_step": self.best_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best_loss, self.best_step = state["best_loss"], state["best_step"]


class StopOnSignal(L.Callback):
    """On Ctrl-C, SIGTERM, SIGHUP or SIGUSR1: finish the step, save `last.ckpt`, stop. A second
    Ctrl-C or SIGTERM kills.

    The ranks agree, so that all stop after the same step; if a validation follows the step, it is
    done first, since it belongs to the state. The validations before and after the training change
    no state: they end after the batch.

    Parameters
    ----------
    folder : Path
        Where `last.ckpt` is saved.
    agree_every : int
        Steps between two points at which several ranks agree.
    """

    def __init__(self, folder: Path, agree_every: int):
        self.folder, self.agree_every = folder, agree_every
        self.received: int | None = None

    def caught(self) -> AbstractContextManager[None]:
        """Catch the signals during a whole run, and restore their handlers at its end.

        (A teardown hook would not do: Lightning's own comes after it, and installs the handlers
        again that were there when it began.)
        """
        return stop_signals_handled(self._receive)

    # Again, after Lightning has installed its own handler of SIGTERM: that one ends a run in the
    # middle of a validation, unsaved and with exit code 0, or has no effect if there is one batch.
    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._install()

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._install()

    def _install(self) -> None:
        if self.received is None:
            handle_stop_signals(self._receive)

    def _receive(self, received: int, frame: FrameType | None) -> None:
        self.received = received
        let_the_next_kill()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: STEP_OUTPUT,
        batch: WindowBatch,
        batch_idx: int,
    ) -> None:
        step_ends = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        # Lightning has set it, as a number of batches, by now.
        assert isinstance(trainer.val_check_batch, int)
        validation_follows = trainer.should_stop or (batch_idx + 1) % trainer.val_check_batch == 0
        if step_ends and not validation_follows:
            self.stop_if_asked(trainer)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: STEP_OUTPUT,
        batch: WindowBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.state.fn == "validate":
            self.stop_if_asked(trainer, saved=True)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.stop_if_asked(trainer, saved=True)

    def stop_if_asked(self, trainer: L.Trainer, saved: bool = False) -> None:
        """Stop if a rank has received a signal; all ranks call it together.

        Raises
        ------
        RunStopped
        """
        if trainer.world_size > 1 and not saved and trainer.global_step % self.agree_every:
            return
        stop = trainer.strategy.reduce_boolean_decision(self.received is not None, all=False)
        if not stop:
            return
        if not saved:
            trainer.save_checkpoint(self.folder / LAST)
        raise RunStopped(self.received or signal.SIGTERM, trainer.global_step)
