"""The masking curriculum as a callback."""

import lightning as L

from cmgems.config import Experiment
from cmgems.errors import UserError
from cmgems.masking.schedule import chosen_strategy, hard_probability, is_plateau
from cmgems.pretraining import Pretraining


class CurriculumCallback(L.Callback):
    """Tells the module, step by step, how to mask; switches a `plateau` curriculum.

    All ranks are in the same stage, always: the stage is a function of the step and of the switch,
    which rank 0 decides and broadcasts. What a resumed run needs lies in the checkpoint.

    Attributes
    ----------
    losses : list of float
        Validation loss under the easy strategy, nats, one a validation.
    switched_at : int or None
        The first step that the hard strategy masks.
    """

    def __init__(self, experiment: Experiment, unigram_entropy: float):
        self.curriculum = experiment.curriculum
        self.max_steps = experiment.train.max_steps
        self.seed = experiment.seed
        self.unigram_entropy = unigram_entropy
        self.losses: list[float] = []
        self.switched_at: int | None = None

    def hard_probability(self, step: int) -> float:
        return hard_probability(self.curriculum, step, self.max_steps, self.switched_at)

    def on_train_batch_start(
        self, trainer: L.Trainer, module: Pretraining, batch, batch_idx: int
    ) -> None:
        step = trainer.global_step
        module.strategy = chosen_strategy(
            self.curriculum.strategies, self.hard_probability(step), self.seed, step
        )

    def on_validation_start(self, trainer: L.Trainer, module: Pretraining) -> None:
        """Validate under the strategy that is most in force."""
        last_step = max(trainer.global_step - 1, 0)
        hard = self.hard_probability(last_step) > 0.5
        module.strategy = self.curriculum.strategies[-1 if hard else 0]

    def on_validation_end(self, trainer: L.Trainer, module: Pretraining) -> None:
        if trainer.state.fn != "fit" or self.curriculum.schedule != "plateau":
            return
        if self.switched_at is not None or trainer.global_step >= self.max_steps:
            return
        self.losses.append(module.validated[module.strategy].loss)
        switch = is_plateau(self.losses, self.curriculum.plateau, self.unigram_entropy)
        if trainer.strategy.broadcast(switch):
            self.switched_at = trainer.global_step

    def state_dict(self) -> dict:
        return {
            "schedule": self.curriculum.schedule,
            "losses": list(self.losses),
            "switched_at": self.switched_at,
        }

    def load_state_dict(self, state: dict) -> None:
        if state["schedule"] != self.curriculum.schedule:
            raise UserError(
                f"curriculum.schedule: the checkpoint is of a {state['schedule']} run, found "
                f"{self.curriculum.schedule}"
            )
        self.losses, self.switched_at = list(state["losses"]), state["switched_at"]
