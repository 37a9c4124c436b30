"""A task of the user's own, as a YAML file:

classes: [control, enhancer]         # labels as they stand in the files
format: table                        # see cmgems.tasks.readers
train: train.csv                     # relative to this file
dev: dev.csv
test: test.csv
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cmgems.config.loading import load_as
from cmgems.config.options import option
from cmgems.errors import UserError
from cmgems.tasks.readers import KINDS, READERS
from cmgems.tasks.task import Files, Task, metric_names

FORMATS = tuple(READERS)


@dataclass(frozen=True)
class TaskFile:
    name: str = option("", "name of the task; default: the file's")
    kind: str = option("", "default: binary for two classes, else multiclass", choices=("", *KINDS))
    classes: tuple[str, ...] = option(
        None, "labels as they stand in the files, quoted; of regression none", factory=tuple
    )
    metric: str = option("", "the figure that counts; default: mcc (pearson of regression)")
    length: int = option(0, "bases of a sequence; 0: not known", low=0)
    format: str = option("table", "of the files", choices=FORMATS)
    train: tuple[str, ...] = option(None, "files to train on, relative to this one", factory=tuple)
    dev: tuple[str, ...] = option(None, "files to choose on", factory=tuple)
    test: tuple[str, ...] = option(None, "files to test on", factory=tuple)
    dev_fraction: float = option(
        0.0, "fraction of train to choose on, without dev", low=0.0, high=0.5, was="dev_share"
    )
    test_fraction: float = option(
        0.0, "fraction of train to test on, without test", low=0.0, high=0.5, was="test_share"
    )
    sequence_column: str = option("sequence", "of a table")
    label_column: str = option("label", "of a table; several labels with ; between (multilabel)")
    source: str = option("", "where the examples come from")


def read_task(path: Path) -> Task:
    """The task that a YAML file describes.

    Raises
    ------
    UserError
        With one line for each problem.
    """
    found = load_as(TaskFile, path, (), broken_rules)
    if not found.train:
        raise UserError(f"{path}: train: found no file, wanted the examples to train on")
    kind = _kind(found)
    layouts = {"train": found.train, "dev": found.dev, "test": found.test}
    return Task(
        found.name or path.stem,
        "user",
        kind,
        found.classes,
        found.metric or metric_names(kind)[0],
        found.length,
        found.source or str(path),
        {split: Files(found.format, (names,)) for split, names in layouts.items() if names},
        dev_fraction=0.0 if found.dev else found.dev_fraction,
        test_fraction=0.0 if found.test else found.test_fraction,
        columns=(found.sequence_column, found.label_column),
        base=path.parent,
    )


def _kind(found: TaskFile) -> str:
    return found.kind or ("binary" if len(found.classes) == 2 else "multiclass")


def broken_rules(found: TaskFile) -> Iterator[tuple[str, str]]:
    """(key, message) of each rule that a task file breaks."""
    kind, classes = _kind(found), len(found.classes)
    wanted = {
        "binary": (classes == 2, "two"),
        "multiclass": (classes >= 2, "two or more"),
        "multilabel": (classes >= 1, "one or more"),
        "regression": (classes == 0, "none"),
    }
    fits, number = wanted[kind]
    if not fits:
        yield "classes", f"classes: found {classes}, kind {kind} wants {number}"
    if len(set(found.classes)) < classes:
        yield "classes", "classes: a label stands there twice"
    metrics = metric_names(kind)
    if found.metric and found.metric not in metrics:
        yield (
            "metric",
            f"metric: found {found.metric!r}, wanted one of {', '.join(metrics)} (kind {kind})",
        )
    yield from _file_rules(found, classes)


def _file_rules(found: TaskFile, classes: int) -> Iterator[tuple[str, str]]:
    if found.format in ("fasta_classes", "folders") and not classes:
        yield "format", f"format: {found.format} needs classes"
    number = {"fasta_classes": classes, "fasta_table": 2}.get(found.format, 1)
    for split in ("train", "dev", "test"):
        names = getattr(found, split)
        if names and len(names) != number:
            yield (
                split,
                f"{split}: found {len(names)} files, format {found.format} wants {number}",
            )
