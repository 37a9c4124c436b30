"""What the jobs of an evaluation share: their context, their results and the examples of a task.

The test split is read where it is scored, after training, and handed to nothing that trains or
chooses.
"""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from cmgems.evaluation.config import Evaluation, Tasks
from cmgems.evaluation.metrics import Scores
from cmgems.evaluation.sources import ModelSource
from cmgems.evaluation.trials import FULL, PUBLISHED, TrialSpec
from cmgems.tasks import splits
from cmgems.tasks.dataset import LabelledSequences
from cmgems.tasks.lookup import find_task
from cmgems.tasks.task import Task


class JobContext(NamedTuple):
    """What a job needs besides its batch; small, so that it can be sent to a process."""

    evaluation: Evaluation
    sources: tuple[ModelSource, ...]
    device: str
    bf16: bool
    folder: str  # where classifiers are saved

    def has_encoder(self, name: str) -> bool:
        """Whether a model is an encoder, and not a linear baseline."""
        return any(source.name == name for source in self.sources)

    def source(self, name: str) -> ModelSource:
        """The source of an encoder."""
        return next(source for source in self.sources if source.name == name)

    def task(self, name: str) -> Task:
        """A task, by the name under which the user knows it."""
        return cached_task(name, self.evaluation.tasks.genome)

    @property
    def min_length(self) -> int:
        """Bases that every sequence must have to be a token of every model."""
        return max((source.tokenization.min_bases for source in self.sources), default=1)


class Result(NamedTuple):
    """The score of a trial, and what is worth knowing about it."""

    trial: TrialSpec
    scores: Scores
    loss: float  # mean training loss of the last epoch; nan where there is none
    seconds: float  # those of the whole batch, per trial
    chosen: dict[str, float]  # on train or dev: k and strength of a baseline, epoch of a training


@lru_cache(maxsize=64)
def cached_task(name: str, genome: str) -> Task:
    """`find_task`, once per process: a custom task is read from its file.

    Parameters
    ----------
    genome : of a task whose intervals have none of their own, `tasks.genome`
    """
    task = find_task(name)
    if task.intervals is not None and not task.intervals.genome:
        return replace(task, intervals=task.intervals._replace(genome=genome))
    return task


@lru_cache(maxsize=8)
def split(name: str, which: str, tasks: Tasks, min_length: int) -> LabelledSequences:
    """A split of a task, once per process."""
    task = cached_task(name, tasks.genome)
    return splits.read_split(task, which, tasks.root, min_length=min_length)


def training_examples(
    evaluation: Evaluation, task: Task, trial: TrialSpec, min_length: int
) -> LabelledSequences:
    """What a trial trains on."""
    if trial.shots == FULL:
        return split(trial.task, "train", evaluation.tasks, min_length)
    replicate = None if trial.replicate == PUBLISHED else trial.replicate
    root = evaluation.tasks.root
    return splits.few_shot(task, trial.shots, replicate, root, min_length=min_length)


def dev_examples(
    evaluation: Evaluation, task: Task, trial: TrialSpec, min_length: int
) -> LabelledSequences | None:
    """What a trial chooses on; None where the protocol or the task has nothing for that."""
    if evaluation.protocol != "full" or "dev" not in task.splits:
        return None
    return split(trial.task, "dev", evaluation.tasks, min_length)


def test_examples(evaluation: Evaluation, name: str, min_length: int) -> LabelledSequences:
    """What the trials of a task are tested on."""
    return split(name, "test", evaluation.tasks, min_length)
