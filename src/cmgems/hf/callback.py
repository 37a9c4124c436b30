"""What moves the curriculum of a `CurriculumCollator` in the Trainer of transformers."""

from typing import Any

from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from cmgems.errors import UserError
from cmgems.hf.collator import CurriculumCollator

PREFETCHED = 2  # batches that a DataLoader loads ahead per worker, by default


class CollatorCallback(TrainerCallback):
    """Tells a collator where the training is: its length, its step, its validation losses.

        Trainer(..., data_collator=collator, callbacks=[CollatorCallback(collator)])

    Batches are masked before the step that they are for: accelerate loads one ahead, each worker
    more. A switch of a `plateau` curriculum therefore comes that many batches after its validation,
    so that a resumed training switches at the same step as one that was not stopped.

    Parameters
    ----------
    collator : CurriculumCollator
    metric : the logged validation loss that a `plateau` curriculum follows
    """

    def __init__(self, collator: CurriculumCollator, metric: str = "eval_loss") -> None:
        self.collator, self.metric, self.epoch = collator, metric, 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        schedule = self.collator.experiment.curriculum.schedule
        if schedule == "plateau" and args.eval_strategy == "no":
            raise UserError(
                "curriculum.schedule: a plateau is found by validations, wanted "
                "TrainingArguments(eval_strategy=...) and an eval_dataset"
            )
        per_process = args.train_batch_size * args.gradient_accumulation_steps
        self.collator.begin(state.max_steps, per_process * args.world_size)
        self._follow(args, state)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.epoch = int((state.epoch or 0.0) + 1e-6)  # in the middle of one, if it is resumed
        self.collator.move_to(state.global_step, self.epoch)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.collator.move_to(state.global_step, self.epoch)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._follow(args, state)

    def _follow(self, args: TrainingArguments, state: TrainerState) -> None:
        workers = args.dataloader_num_workers
        ahead = 1 + workers * (args.dataloader_prefetch_factor or PREFETCHED)  # micro-batches
        found = [entry for entry in state.log_history if self.metric in entry]
        losses = [(int(entry["step"]), entry[self.metric]) for entry in found]
        self.collator.follow(losses, -(-ahead // args.gradient_accumulation_steps))
