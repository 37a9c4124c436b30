"""Tasks: what is to be told apart, where its files lie, how it is scored.

    >>> task("gue/prom/prom_core_all").metric
    'mcc'
    >>> [found.name for found in tasks("prom-*")]
    ['prom-core', 'prom-300']

`registry` lists the published ones. A task of your own is a YAML file (`task_file`), named in the
same places by its path. Examples are read by `task_data`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from cmgems.downstream.labelled_files import Reading
from cmgems.errors import UserError

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Files:
    """The files of one split, or of the published examples of one shot count."""

    format: str  # a key of labelled_files.READERS, or of constructed.MAKERS
    # Relative to the root folder; the first layout of which all files are there is taken.
    layouts: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Recipe:
    """How a task is fine-tuned on all of its training split, by its publishers."""

    epochs: int = 3
    rate: float = 3e-5
    batch: int = 32
    warmup_steps: int = 50
    max_steps: int = 0  # 0: as many as the epochs have


@dataclass(frozen=True, eq=False)
class Task:
    """A labelled data set with its protocol."""

    name: str
    group: str
    kind: str  # binary, multiclass, multilabel or regression
    classes: tuple[str, ...]  # labels as they stand in the files, in the order of their numbers
    metric: str  # the official one: a field of `scores.Scores`
    length: int  # bases of a sequence, of the longest ones where it varies; 0: not known
    source: str  # who published it, and where
    files: Mapping[str, Files]  # by split
    shot_files: Mapping[int, Files] = field(default_factory=dict)  # by examples a class
    dev_share: float = 0.0  # held out of train where there is no file for dev
    test_share: float = 0.0  # held out where there is no file for test
    paired: bool = False  # examples of one name belong together, on one side of every split
    recipe: Recipe = field(default_factory=Recipe)
    columns: tuple[str, str] = ("sequence", "label")  # of tables
    licence: str = "not stated with the data"
    base: Path | None = None  # folder of its files, instead of the root folder

    @property
    def shots(self) -> tuple[int, ...]:
        """Examples a class of the published few-shot files."""
        return tuple(sorted(self.shot_files))

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that it has, by file or held out."""
        held_out = {"dev": self.dev_share > 0, "test": self.test_share > 0}
        held_out["train"] = bool(self.shot_files)
        return tuple(s for s in SPLITS if s in self.files or held_out[s])

    def reading(self, shortest: int) -> Reading:
        return Reading(self.kind, self.classes, *self.columns, shortest)


def task(name: str) -> Task:
    """A task of the registry, or the user's own: the path of a YAML file.

    Raises
    ------
    UserError
        If there is no such task, or the file is not the description of one.
    """
    from cmgems.downstream.registry import TASKS

    if Path(name).suffix in (".yaml", ".yml"):
        from cmgems.downstream.task_file import read_task

        return read_task(Path(name))
    if name not in TASKS:
        raise UserError(f"found the task {name!r}, wanted {_some_names(name)}")
    return TASKS[name]


def tasks(*patterns: str) -> tuple[Task, ...]:
    """The tasks that patterns name (`*` and `?` as in a shell), each once, in order.

    Raises
    ------
    UserError
        If nothing has such a name.
    """
    from cmgems.downstream.registry import TASKS

    found: dict[str, Task] = {}
    for pattern in patterns:
        names = [name for name in TASKS if fnmatchcase(name, pattern)]
        if "*" in pattern and not names:
            raise UserError(f"found no task like {pattern!r}, wanted {_some_names(pattern)}")
        for one in map(task, names or [pattern]):
            found[one.name] = one
    return tuple(found.values())


def _some_names(name: str) -> str:
    import difflib

    from cmgems.downstream.registry import TASKS

    close = difflib.get_close_matches(name, TASKS, n=3, cutoff=0.5)
    known = ", ".join(close) or "one of those in docs/tasks.md"
    return f"{known}, or the path of a task's YAML file"
