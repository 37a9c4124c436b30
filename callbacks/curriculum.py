"""The masking curriculum as a callback."""

from math import ceil

import lightning as L

from cmgems.config.schema import Experiment
from cmgems.curriculum.plateau import is_plateau
from cmgems.curriculum.schedule import place, plan_at
from cmgems.errors import UserError
from cmgems.masking.masker import Plan
from cmgems.training.module import Pretraining


class CurriculumCallback(L.Callback):
    """Tells the module, step by step, how to mask; moves a `plateau` curriculum on.

    All ranks are in the same stage, always: the plan is a function of the step and of the switches,
    which rank 0 decides and broadcasts. What a resumed run needs lies in the checkpoint.

    Attributes
    ----------
    switches : list of int
        The first step of each stage behind the first.
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
        """The step from which on the last strategy masks, once a plateau curriculum is there."""
        there = len(self.switches) == len(self.curriculum.strategies) - 1
        return self.switches[-1] if self.switches and there else None

    def place(self, step: int) -> float:
        """Where among the strategies a step is, 0 .. their number less 1."""
        return place(self.curriculum, step, self.max_steps, self.switches, self.seed)

    def plan(self, step: int) -> Plan:
        return plan_at(
            self.curriculum, self.masking, step, self.max_steps, self.switches, self.seed
        )

    def on_train_batch_start(
        self, trainer: L.Trainer, module: Pretraining, batch, batch_idx: int
    ) -> None:
        module.plan = self.plan(trainer.global_step)

    def on_validation_start(self, trainer: L.Trainer, module: Pretraining) -> None:
        """Validate under the strategy that is most in force."""
        step = max(trainer.global_step - 1, 0)
        most = self.curriculum.strategies[ceil(self.place(step) - 0.5)]
        module.plan = Plan((most,), settings=self.plan(step).settings)

    def on_validation_end(self, trainer: L.Trainer, module: Pretraining) -> None:
        if trainer.state.fn != "fit":
            return
        module.masker.refresh_losses(module.add_up)
        stages = len(self.curriculum.strategies) - 1
        over = len(self.switches) == stages or trainer.global_step >= self.max_steps
        if self.curriculum.schedule != "plateau" or over:
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

    def state_dict(self) -> dict:
        return {
            "schedule": self.curriculum.schedule,
            "losses": list(self.losses),
            "switches": list(self.switches),
        }

    def load_state_dict(self, state: dict) -> None:
        if state["schedule"] != self.curriculum.schedule:
            raise UserError(
                f"curriculum.schedule: the checkpoint is of a {state['schedule']} run, found "
                f"{self.curriculum.schedule}"
            )
        self.losses, self.switches = list(state["losses"]), list(state["switches"])
