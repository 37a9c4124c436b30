"""Tasks: what is to be told apart, where its files are, how it is scored.

`cmgems.tasks.lookup` finds a task by its name; `cmgems.tasks.published` lists the published ones. A
task of your own is a YAML file (`cmgems.tasks.yaml_task`), named in the same places by its path.
Examples are read by `cmgems.tasks.splits`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cmgems.tasks.interval_task import IntervalSource
from cmgems.tasks.readers import ReadOptions

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Files:
    """The files of one split, or of the published examples of one shot count."""

    format: str  # a key of readers.READERS, or of synthetic.MAKERS or FROM_FILES
    # Relative to the root folder; the first layout of which all files exist is read.
    layouts: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class PublishedRecipe:
    """How a task is fine-tuned on all of its training split, by its publishers."""

    epochs: int = 3
    learning_rate: float = 3e-5
    batch_size: int = 32
    warmup_steps: int = 50
    max_steps: int = 0  # 0: as many as the epochs have


@dataclass(frozen=True, eq=False)
class Task:
    """A labelled data set with its protocol."""

    name: str
    group: str
    kind: str  # binary, multiclass, multilabel or regression
    classes: tuple[str, ...]  # labels as written in the files, in the order of their numbers
    metric: str  # the official one: a field of `evaluation.metrics.Scores`
    length: int  # bases of a sequence, or of the longest ones; 0: not known
    source: str  # who published it, and where
    files: Mapping[str, Files]  # by split
    shot_files: Mapping[int, Files] = field(default_factory=dict)  # by examples per class
    dev_fraction: float = 0.0  # held out of train where there is no file for dev
    test_fraction: float = 0.0  # held out where there is no file for test
    category: str = ""  # what it asks for, in a word or two; "": not known
    paired: bool = False  # examples of one name belong together, on one side of every split
    recipe: PublishedRecipe = field(default_factory=PublishedRecipe)
    columns: tuple[str, str] = ("sequence", "label")  # of tables
    license: str = "not stated with the data"
    base: Path | None = None  # the folder of its files, in place of the root folder
    intervals: IntervalSource | None = None  # of a task whose examples are windows of a genome

    @property
    def shots(self) -> tuple[int, ...]:
        """Examples per class of the published few-shot files."""
        return tuple(sorted(self.shot_files))

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the task has, as files or held out."""
        held_out = {"dev": self.dev_fraction > 0, "test": self.test_fraction > 0}
        held_out["train"] = bool(self.shot_files)
        return tuple(s for s in SPLITS if s in self.files or held_out[s])

    def read_options(self, min_length: int) -> ReadOptions:
        """How the files of the task are read."""
        return ReadOptions(self.kind, self.classes, *self.columns, min_length)


_CLASS_METRICS = ("mcc", "accuracy", "auroc", "auprc", "f1", "ece")
_REGRESSION_METRICS = ("pearson", "spearman", "r2", "mse")


def metric_names(kind: str) -> tuple[str, ...]:
    """Names of the metrics of a kind of task, the default official one first."""
    if kind == "regression":
        return _REGRESSION_METRICS
    if kind == "multilabel":
        return ("auroc", "auprc", "f1", "accuracy")
    return _CLASS_METRICS
