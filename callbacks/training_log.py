"""Figures of training and validation, to the loggers, at optimiser steps."""

from collections.abc import Callable

import lightning as L
import torch

from cmgems.callbacks.curriculum import CurriculumCallback
from cmgems.training.module import HIDING_MASKS, Pretraining


class TrainingLog(L.Callback):
    """Logs loss, perplexity, accuracy, masked share, curriculum, learning rate and gradient norm.

    A line at step n covers all micro-batches of all ranks of that step, and nothing else, so that
    a resumed run writes the lines of an uninterrupted one. Reading figures waits for the device:
    only every `every` steps.

    Parameters
    ----------
    curriculum : CurriculumCallback
    every : int
        Steps between two lines.
    references : callable, optional
        Gives the bits per hidden base of models without a network, which stand beside the
        validation figures; the first rank alone has it, and writes.

    Attributes
    ----------
    before, after : dict of mask -> dict of figure -> float
        Validation of the untrained model, and the last one.
    """

    def __init__(
        self,
        curriculum: CurriculumCallback,
        every: int,
        references: Callable[[], dict[str, float]] | None = None,
    ):
        self.curriculum, self.every, self._references = curriculum, every, references
        self.strategies = curriculum.curriculum.strategies
        self.last_logged: dict[str, float] = {}
        self.initial: dict[str, dict[str, float]] = {}
        self.final: dict[str, dict[str, float]] = {}
        # masked and maskable tokens of the run by strategy, all ranks
        self._totals = torch.zeros(len(self.strategies), 2, dtype=torch.int64)

    def setup(self, trainer: L.Trainer, module: Pretraining, stage: str) -> None:
        self._module = module

    def masked_fractions(self) -> dict[str, float]:
        """Realised share of masked tokens over the whole run, by strategy."""
        return {
            name: masked / maskable
            for name, (masked, maskable) in zip(self.strategies, self._totals.tolist(), strict=True)
            if maskable
        }

    def reference(self) -> dict[str, float]:
        """What models without a network pay; may wait until that is computed."""
        return self._references() if self._references else {}

    def on_train_batch_start(
        self, trainer: L.Trainer, module: Pretraining, batch, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            module.metrics.step.reset()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: Pretraining, outputs, batch, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if trainer.global_step % self.every == 0:
            module.check_finite()
            self._log_step(trainer, module)

    def _log_step(self, trainer: L.Trainer, module: Pretraining) -> None:
        self._collect(module)
        step = trainer.global_step - 1
        self.last_logged = {
            **module.metrics.step.compute().named(),
            "gradient_norm": float(module.gradient_norm),
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "progress": self.curriculum.place(step),
            **self.curriculum.plan(step).settings._asdict(),
            **{f"fraction_by_{name}": share for name, share in self.masked_fractions().items()},
        }
        write(trainer, {f"train/{name}": value for name, value in self.last_logged.items()})

    def _collect(self, module: Pretraining) -> None:
        """Add what the ranks have counted since the last time."""
        none = torch.zeros(2, dtype=torch.int64, device=module.device)
        counts = torch.stack([module.mask_counts.get(name, none) for name in self.strategies])
        self._totals += module.add_up(counts).cpu()
        module.mask_counts = {}

    def on_validation_end(self, trainer: L.Trainer, module: Pretraining) -> None:
        self._collect(module)
        self.final = {mask: figures.named() for mask, figures in module.validated.items()}
        self.final[HIDING_MASKS] |= module.validated_hidden.named()
        self.final["own_masks"] = self.final[module.strategy]
        if trainer.state.fn == "validate":
            self.initial = self.final
        write(
            trainer,
            {
                f"validation_{mask}/{name}": value
                for mask, named in self.final.items()
                for name, value in named.items()
            }
            | {f"validation_reference/{name}": value for name, value in self.reference().items()},
        )

    def state_dict(self) -> dict:
        """Asked for on all ranks when a checkpoint is made."""
        self._collect(self._module)
        return {"initial": self.initial, "final": self.final, "totals": self._totals.tolist()}

    def load_state_dict(self, state: dict) -> None:
        self.initial, self.final = state["initial"], state["final"]
        self._totals = torch.tensor(state["totals"], dtype=torch.int64)


def write(trainer: L.Trainer, values: dict[str, float]) -> None:
    """To every logger, against the number of optimiser steps taken."""
    for logger in trainer.loggers:
        logger.log_metrics(values, step=trainer.global_step)
