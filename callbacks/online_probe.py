"""What the states of a pretraining run are worth on labelled tasks, against the step."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import lightning as L
import torch

from cmgems.callbacks.training_log import write
from cmgems.config.schema import Experiment
from cmgems.tokenization import build_tokenization
from cmgems.training.module import Pretraining


class Probed(NamedTuple):
    """A task that is held in memory for the whole run."""

    name: str
    metric: str
    target: object  # linear.Target of the training examples
    train: object  # LabelledSequences
    test: object


class OnlineProbe(L.Callback):
    """Every `probe.every_n_steps` steps: logistic regression on the mean states of frozen layers.

    The scores go to the loggers as `probe/TASK/METRIC` and `probe/TASK/neighbours_METRIC`. The run
    itself is not touched: the states are computed by a copy of the encoder without dropout, and
    torch's generators are left as they were.

    Parameters
    ----------
    experiment : Experiment
    paused : callable
        Gives the context in which the probes are computed: they are no time of training.

    Attributes
    ----------
    scores : list of dict
        step, task and figures, in the order of the steps.
    """

    def __init__(
        self,
        experiment: Experiment,
        paused: Callable[[], AbstractContextManager] = nullcontext,
    ):
        self.paused = paused
        self.every = experiment.probe.every_n_steps
        self.tokenization = build_tokenization(experiment.data)
        self.scores: list[dict] = []
        self.tasks = _read(experiment) if self.every else []

    def on_train_batch_end(
        self, trainer: L.Trainer, module: Pretraining, outputs, batch, batch_idx: int
    ) -> None:
        step_ended = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not self.every or not step_ended or trainer.global_step % self.every:
            return
        if trainer.is_global_zero:
            with self.paused():
                self._probe(trainer, module)

    def _probe(self, trainer: L.Trainer, module: Pretraining) -> None:
        from cmgems.evaluation.linear.probe import probe
        from cmgems.inference.embedding import pooled

        cuda = [module.device] if module.device.type == "cuda" else []
        for one in self.tasks:
            with torch.random.fork_rng(devices=cuda):
                states = [
                    pooled(module.model.encoder, data, self.tokenization)
                    for data in (one.train, one.test)
                ]
                found = probe(states[0], one.target, states[1], one.test.labels)
            figures = found["logistic"].metrics() | {
                f"neighbours_{one.metric}": getattr(found["neighbours"], one.metric)
            }
            write(trainer, {f"probe/{one.name}/{name}": x for name, x in figures.items()})
            self.scores.append({"step": trainer.global_step, "task": one.name, **figures})

    def state_dict(self) -> dict:
        return {"scores": list(self.scores)}

    def load_state_dict(self, state: dict) -> None:
        self.scores = list(state["scores"])


def _read(experiment: Experiment) -> list[Probed]:
    """All tasks, before the run begins, so that what is wrong with them is told at once."""
    from cmgems.evaluation.linear.models import Target
    from cmgems.tasks import splits
    from cmgems.tasks.lookup import find_tasks

    its, min_length = experiment.probe, build_tokenization(experiment.data).min_bases
    found = []
    for one in find_tasks(*its.tasks):
        train = splits.few_shot(one, its.shots, 0, its.root, min_length=min_length)
        test = splits.read_split(one, "test", its.root, min_length=min_length)
        target = Target(train.labels, one.kind, len(one.classes))
        found.append(Probed(one.name, one.metric, target, train, test))
    return found
