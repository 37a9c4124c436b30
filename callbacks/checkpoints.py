"""Checkpoints of a run: `last.ckpt` after every validation, `best.ckpt` when it is the best."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning as L

from cmgems.errors import RunStopped
from cmgems.training.module import COMMON_MASKS, Pretraining

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # that stop a run


class RunCheckpoints(L.Callback):
    """Saves at the end of a validation, when the curriculum has decided on it.

    (A checkpoint taken before its validation makes a resumed run skip that validation.)
    `best` is by the loss under `random` masks, which compares across curricula.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.best_loss = float("inf")
        self.best_step = 0

    def on_validation_end(self, trainer: L.Trainer, module: Pretraining) -> None:
        if trainer.state.fn != "fit":
            return
        module.check_finite()
        loss = module.validated[COMMON_MASKS[0]].loss
        is_best = loss < self.best_loss
        if is_best:
            self.best_loss, self.best_step = loss, trainer.global_step
        trainer.save_checkpoint(self.folder / "last.ckpt")
        if is_best:
            trainer.save_checkpoint(self.folder / "best.ckpt")

    def state_dict(self) -> dict:
        return {"best_loss": self.best_loss, "best_step": self.best_step}

    def load_state_dict(self, state: dict) -> None:
        self.best_loss, self.best_step = state["best_loss"], state["best_step"]


@contextmanager
def signals_restored() -> Iterator[None]:
    """Around a whole run: whoever handled the signals before handles them again.

    (A teardown hook of `StopOnSignal` would not do: Lightning's own comes after it, and installs
    again what it found when it began.)
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopOnSignal(L.Callback):
    """Ctrl-C and SIGTERM: finish the step, save `last.ckpt`, stop. A second signal kills.

    The ranks agree, so that all stop after the same step; where a validation follows the step, it
    is done first, since it belongs to the state.
    """

    def __init__(self, folder: Path, agree_every: int):
        self.folder, self.agree_every = folder, agree_every
        self.received: int | None = None

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._take_over()

    # Once more, behind Lightning's own handler of SIGTERM: that one ends a run in the middle of a
    # validation, unsaved and with exit code 0, or is forgotten if there is one batch only.
    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._take_over()

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._take_over()

    def _take_over(self) -> None:
        if self.received is None:
            for number in SIGNALS:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        self.received = number
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx: int
    ) -> None:
        validates = (batch_idx + 1) % trainer.val_check_batch == 0
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and not validates:
            self._stop_if_told(trainer)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._stop_if_told(trainer, saved=True)

    def _stop_if_told(self, trainer: L.Trainer, saved: bool = False) -> None:
        if trainer.world_size > 1 and not saved and trainer.global_step % self.agree_every:
            return
        told = trainer.strategy.reduce_boolean_decision(self.received is not None, all=False)
        if not told:
            return
        if not saved:
            trainer.save_checkpoint(self.folder / "last.ckpt")
        raise RunStopped(self.received or signal.SIGTERM, trainer.global_step)
