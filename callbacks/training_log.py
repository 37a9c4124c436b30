"""Figures of training and validation, to the loggers, at optimiser steps."""

import lightning as L
import torch

from cmgems.callbacks.curriculum import CurriculumCallback
from cmgems.pretraining import Pretraining


class TrainingLog(L.Callback):
    """Logs loss, perplexity, accuracy, masked share, stage, learning rate and gradient norm.

    A line at step n covers all micro-batches of all ranks of that step, and nothing else, so that
    a resumed run writes the lines of an uninterrupted one. Reading figures waits for the device:
    only every `every` steps.

    Attributes
    ----------
    before, after : dict of mask -> dict of figure -> float
        Validation of the untrained model, and the last one.
    """

    def __init__(self, curriculum: CurriculumCallback, every: int):
        self.curriculum, self.every = curriculum, every
        self.strategies = curriculum.curriculum.strategies
        self.latest: dict[str, float] = {}
        self.before: dict[str, dict[str, float]] = {}
        self.after: dict[str, dict[str, float]] = {}
        # masked and maskable tokens of the run by strategy, all ranks; what is not yet reduced
        self._totals = torch.zeros(len(self.strategies), 2, dtype=torch.int64)
        self._pending: torch.Tensor | None = None

    def masked_shares(self) -> dict[str, float]:
        """Realised share of masked tokens over the whole run, by strategy."""
        return {
            name: masked / maskable
            for name, (masked, maskable) in zip(self.strategies, self._totals.tolist(), strict=True)
            if maskable
        }

    def on_train_batch_start(
        self, trainer: L.Trainer, module: Pretraining, batch, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            module.training_figures.reset()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: Pretraining, outputs, batch, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        self._count(module)
        if trainer.global_step % self.every == 0:
            module.check_finite()
            self._log_step(trainer, module)

    def _count(self, module: Pretraining) -> None:
        figures = module.training_figures
        if self._pending is None:
            self._pending = torch.zeros_like(self._totals, device=module.device)
        row = self._pending[self.strategies.index(module.strategy)]
        row += torch.stack([figures.masked, figures.maskable])

    def _log_step(self, trainer: L.Trainer, module: Pretraining) -> None:
        self._collect(trainer)
        self.latest = {
            **module.training_figures.compute().named(),
            "gradient_norm": float(module.gradient_norm),
            "rate": trainer.optimizers[0].param_groups[0]["lr"],
            "hard_probability": self.curriculum.hard_probability(trainer.global_step - 1),
            **{f"share_by_{name}": share for name, share in self.masked_shares().items()},
        }
        write(trainer, {f"train/{name}": value for name, value in self.latest.items()})

    def _collect(self, trainer: L.Trainer) -> None:
        """Add what the ranks have counted since the last time."""
        if self._pending is not None:
            self._totals += trainer.strategy.reduce(self._pending, reduce_op="sum").cpu()
            self._pending = None

    def on_validation_end(self, trainer: L.Trainer, module: Pretraining) -> None:
        self._collect(trainer)
        self.after = {mask: figures.named() for mask, figures in module.validated.items()}
        self.after["in_force"] = self.after[module.strategy]
        if trainer.state.fn == "validate":
            self.before = self.after
        write(
            trainer,
            {
                f"validation_{mask}/{name}": value
                for mask, named in self.after.items()
                for name, value in named.items()
            },
        )

    def state_dict(self) -> dict:
        return {"before": self.before, "after": self.after, "totals": self._totals.tolist()}

    def load_state_dict(self, state: dict) -> None:
        self.before, self.after = state["before"], state["after"]
        self._totals = torch.tensor(state["totals"], dtype=torch.int64)


def write(trainer: L.Trainer, values: dict[str, float]) -> None:
    """To every logger, against the number of optimiser steps taken."""
    for logger in trainer.loggers:
        logger.log_metrics(values, step=trainer.global_step)
