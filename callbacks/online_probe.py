"""How well the hidden states of a run predict labelled tasks, against the step."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT

from cmgems.callbacks.training_log import write
from cmgems.config.schema import Experiment
from cmgems.data_modules.windows import WindowBatch
from cmgems.tokenization import build_tokenization
from cmgems.training.module import Pretraining

if TYPE_CHECKING:  # scikit-learn takes long to import, and most runs are not probed
    from cmgems.evaluation.linear.models import Target
    from cmgems.tasks.dataset import LabelledSequences


class ProbeTask(NamedTuple):
    """A task that is held in memory for the whole run."""

    name: str
    metric: str
    target: "Target"  # of the training examples
    train: "LabelledSequences"
    test: "LabelledSequences"


class OnlineProbe(L.Callback):
    """Every `probe.every_n_steps` steps: logistic regression on frozen hidden states.

    What is read is the mean and the maximum over the tokens of every layer, as the protocol `probe`
    of an evaluation has it.
    The scores are logged as `probe/TASK/METRIC` and `probe/TASK/neighbours_METRIC`. The run itself
    is not affected: the hidden states are computed by a copy of the encoder without dropout, and
    torch's generators are left as they were.

    Parameters
    ----------
    experiment : Experiment
    paused : callable
        Returns the context in which the probes are computed: their time is not training.

    Attributes
    ----------
    scores : list of dict
        Step, task and metrics, in the order of the steps.
    """

    def __init__(
        self,
        experiment: Experiment,
        paused: Callable[[], AbstractContextManager[None]] = nullcontext,
    ):
        self.paused = paused
        self.every = experiment.probe.every_n_steps
        self.tokenization = build_tokenization(experiment.data)
        self.scores: list[dict[str, Any]] = []
        self.tasks = _read_tasks(experiment) if self.every else []

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: Pretraining,
        outputs: STEP_OUTPUT,
        batch: WindowBatch,
        batch_idx: int,
    ) -> None:
        step_ended = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not self.every or not step_ended or trainer.global_step % self.every:
            return
        if trainer.is_global_zero:
            with self.paused():
                self._probe(trainer, module)

    def _probe(self, trainer: L.Trainer, module: Pretraining) -> None:
        from cmgems.evaluation.linear.probe import probe  # scikit-learn: slow to import
        from cmgems.inference.embedding import ALL, embed_sequences

        cuda = [module.device] if module.device.type == "cuda" else []
        for task in self.tasks:
            with torch.random.fork_rng(devices=cuda):
                train, test = (
                    embed_sequences(
                        module.model.encoder, data, self.tokenization, "mean_max", layers=ALL
                    )
                    for data in (task.train, task.test)
                )
                scores = probe(train, task.target, test, task.test.labels)
            metrics = scores["logistic"].metrics() | {
                f"neighbours_{task.metric}": getattr(scores["neighbours"], task.metric)
            }
            write(trainer, {f"probe/{task.name}/{name}": x for name, x in metrics.items()})
            self.scores.append({"step": trainer.global_step, "task": task.name, **metrics})

    def state_dict(self) -> dict[str, Any]:
        return {"scores": list(self.scores)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scores = list(state["scores"])


def _read_tasks(experiment: Experiment) -> list[ProbeTask]:
    """Read all tasks before the run begins, so that what is wrong with them is reported then."""
    from cmgems.evaluation.linear.models import Target  # scikit-learn: slow to import
    from cmgems.tasks import splits
    from cmgems.tasks.lookup import find_tasks

    probe, min_length = experiment.probe, build_tokenization(experiment.data).min_bases
    probe_tasks = []
    for task in find_tasks(*probe.tasks):
        train = splits.few_shot(task, probe.shots, 0, probe.root, min_length=min_length)
        test = splits.read_split(task, "test", probe.root, min_length=min_length)
        target = Target(train.labels, task.kind, len(task.classes))
        probe_tasks.append(ProbeTask(task.name, task.metric, target, train, test))
    return probe_tasks
