"""The masking curriculum as a callback."""

from math import ceil
from typing import Any

import lightning as L

from cmgems.config.schema import Experiment
from cmgems.curriculum.plateau import is_plateau
from cmgems.curriculum.schedule import plan_at, stage_position
from cmgems.data_modules.windows import WindowBatch
from cmgems.errors import UserError
from cmgems.masking.masker import MaskingPlan
from cmgems.training.module import Pretraining


class CurriculumCallback(L.Callback):
    """Sets the module's masking plan at every step, and the switches of a `plateau` curriculum.

    All ranks are always in the same stage: the plan is a function of the step and of the switches,
    which rank 0 decides and broadcasts. What a resumed run needs is stored in the checkpoint.

    Parameters
    ----------
    experiment : Experiment
    unigram_entropy : float
        Entropy of the k-mers' frequencies, nats.

    Attributes
    ----------
    switches : list of int
        The first step of each stage but the first.
    losses : list of float
        Validation losses of the stage under its own strategy, nats.
    """

    def __init__(self, experiment: Experiment, unigram_entropy: float):
        self.curriculum, self.masking = experiment.curriculum, experiment.masking
        self.max_steps = experiment.train.max_steps
        self.seed = experiment.seed
        self.unigram_entropy = unigram_entropy
        self.switches: list[int] = []
        self.losses: list[float] = []

    @property
    def switched_at(self) -> int | None:
        """The first step of the last strategy, once a plateau curriculum has reached it."""
        in_last_stage = len(self.switches) == len(self.curriculum.strategies) - 1
        return self.switches[-1] if self.switches and in_last_stage else None

    def stage_position(self, step: int) -> float:
        """Position of a step among the S strategies, 0 .. S - 1."""
        return stage_position(self.curriculum, step, self.max_steps, self.switches, self.seed)

    def plan(self, step: int) -> MaskingPlan:
        """How a step is masked."""
        return plan_at(
            self.curriculum, self.masking, step, self.max_steps, self.switches, self.seed
        )

    def on_train_batch_start(
        self, trainer: L.Trainer, module: Pretraining, batch: WindowBatch, batch_idx: int
    ) -> None:
        module.plan = self.plan(trainer.global_step)

    def on_validation_start(self, trainer: L.Trainer, module: Pretraining) -> None:
        """Validate under the most probable strategy of the last step."""
        step = max(trainer.global_step - 1, 0)
        nearest = self.curriculum.strategies[ceil(self.stage_position(step) - 0.5)]
        module.plan = MaskingPlan((nearest,), params=self.plan(step).params)

    def on_validation_end(self, trainer: L.Trainer, module: Pretraining) -> None:
        if trainer.state.fn != "fit":
            return
        module.masker.refresh_losses(module.add_up)
        in_last_stage = len(self.switches) == len(self.curriculum.strategies) - 1
        is_over = in_last_stage or trainer.global_step >= self.max_steps
        if self.curriculum.schedule != "plateau" or is_over:
            return
        self.losses.append(module.validated[module.strategy].loss)
        flat = is_plateau(
            self.losses,
            self.curriculum.plateau,
            self.unigram_entropy,
            first_stage=not self.switches,
            copies=module.masker.tokenization.windows.overlap > 0,
        )
        if trainer.strategy.broadcast(flat):
            self.switches.append(trainer.global_step)
            self.losses = []

    def state_dict(self) -> dict[str, Any]:
        return {
            "schedule": self.curriculum.schedule,
            "losses": list(self.losses),
            "switches": list(self.switches),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["schedule"] != self.curriculum.schedule:
            raise UserError(
                f"curriculum.schedule: the checkpoint is of a {state['schedule']} run, found "
                f"{self.curriculum.schedule}"
            )
        self.losses, self.switches = list(state["losses"]), list(state["switches"])
