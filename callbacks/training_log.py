"""Metrics of training and validation, to the loggers, at optimizer steps."""

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT

from cmgems.callbacks.curriculum import CurriculumCallback
from cmgems.data_modules.windows import WindowBatch
from cmgems.training.module import FULLY_HIDDEN_MASKS, Pretraining


class TrainingLog(L.Callback):
    """Logs loss, perplexity, accuracy, masked fraction, curriculum, learning rate, gradient norm.

    A line at step n covers all micro-batches of all ranks of that step, and nothing else, so that
    a resumed run writes the lines of an uninterrupted one. Reading metrics synchronizes with the
    device: they are read every `every` steps only.

    Parameters
    ----------
    curriculum : CurriculumCallback
    every : int
        Steps between two lines.
    references : callable, optional
        Returns the bits per hidden base of models without a network, which are logged next to the
        validation metrics. Only the first rank has it: only that one writes.

    Attributes
    ----------
    last_logged : dict of metric -> float
        The last line of training metrics.
    initial, final : dict of mask -> dict of metric -> float
        Validation of the untrained model, and the last validation: that on the final windows, once
        there was one.
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
        # masked and maskable tokens of the run per strategy, over all ranks
        self._totals = torch.zeros(len(self.strategies), 2, dtype=torch.int64)

    def setup(self, trainer: L.Trainer, module: Pretraining, stage: str) -> None:
        self._module = module  # for `state_dict`, which Lightning calls without it

    def masked_fractions(self) -> dict[str, float]:
        """Realized fraction of masked tokens over the whole run, per strategy."""
        return {
            name: masked / maskable
            for name, (masked, maskable) in zip(self.strategies, self._totals.tolist(), strict=True)
            if maskable
        }

    def baseline_bits(self) -> dict[str, float]:
        """Bits per hidden base of models without a network; may wait until they are computed."""
        return self._references() if self._references else {}

    def on_train_batch_start(
        self, trainer: L.Trainer, module: Pretraining, batch: WindowBatch, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            module.metrics.step.reset()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: Pretraining,
        outputs: STEP_OUTPUT,
        batch: WindowBatch,
        batch_idx: int,
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
            "progress": self.curriculum.stage_position(step),
            **{
                name: value
                for name, value in self.curriculum.plan(step).params._asdict().items()
                if name != "budget"  # a word, the same throughout the run
            },
            **{f"fraction_by_{name}": x for name, x in self.masked_fractions().items()},
        }
        write(trainer, {f"train/{name}": value for name, value in self.last_logged.items()})

    def _collect(self, module: Pretraining) -> None:
        """Add what the ranks have counted since the last call; they all call it."""
        none = torch.zeros(2, dtype=torch.int64, device=module.device)
        counts = torch.stack([module.mask_counts.get(name, none) for name in self.strategies])
        self._totals += module.add_up(counts).cpu()
        module.mask_counts = {}

    def on_validation_end(self, trainer: L.Trainer, module: Pretraining) -> None:
        self._collect(module)
        self.final = {mask: metrics.named() for mask, metrics in module.validated.items()}
        assert module.validated_hidden is not None  # every validation measures it
        self.final[FULLY_HIDDEN_MASKS] |= module.validated_hidden.named()
        self.final["own_masks"] = self.final[module.strategy]
        if is_final(trainer):
            return  # on other windows than the curves
        if trainer.state.fn == "validate":
            self.initial = self.final
        write(
            trainer,
            {
                f"validation_{mask}/{name}": value
                for mask, named in self.final.items()
                for name, value in named.items()
            }
            | {f"validation_reference/{name}": x for name, x in self.baseline_bits().items()},
        )

    def state_dict(self) -> dict[str, Any]:
        """Called on all ranks when a checkpoint is made."""
        self._collect(self._module)
        return {"initial": self.initial, "final": self.final, "totals": self._totals.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.initial, self.final = state["initial"], state["final"]
        self._totals = torch.tensor(state["totals"], dtype=torch.int64)


def is_final(trainer: L.Trainer) -> bool:
    """Whether this is the validation that follows the training, on `validation.final_windows`."""
    return trainer.state.fn == "validate" and trainer.global_step > 0


def write(trainer: L.Trainer, values: dict[str, float]) -> None:
    """Log to every logger, against the number of optimizer steps taken."""
    for logger in trainer.loggers:
        logger.log_metrics(values, step=trainer.global_step)
