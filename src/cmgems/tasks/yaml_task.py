"""A custom task, as a YAML file:

classes: [control, enhancer]         # labels as written in the files
format: table                        # see cmgems.tasks.readers
train: train.csv                     # relative to this file
dev: dev.csv
test: test.csv

or as windows of a genome around intervals (see cmgems.tasks.interval_task):

classes: [other, ctcf]               # of the negatives, of the positives
positives: ctcf.bed
negatives: matched
genome: sample
window: 200
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cmgems.config.loading import load_as
from cmgems.config.options import option
from cmgems.errors import UserError
from cmgems.genome.annotation.intervals import split_feature
from cmgems.tasks.interval_task import KINDS as NEGATIVES
from cmgems.tasks.interval_task import IntervalSource
from cmgems.tasks.readers import KINDS, READERS
from cmgems.tasks.site_windows import CENTERS
from cmgems.tasks.task import Files, Task, metric_names

FORMATS = tuple(READERS)


@dataclass(frozen=True)
class TaskFile:
    name: str = option("", "name of the task; default: the file's")
    kind: str = option("", "default: binary for two classes, else multiclass", choices=("", *KINDS))
    classes: tuple[str, ...] = option(
        None, "labels as written in the files; none for a regression", factory=tuple
    )
    metric: str = option("", "the official metric; default: mcc (pearson for a regression)")
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
    positives: tuple[str, ...] = option(
        None,
        "a file of intervals for each class but the first: BED, GTF:FEATURE or a table",
        factory=tuple,
    )
    negatives: str = option(
        "matched",
        "windows of the first class: `matched`, `decoy`, `shifted`, `shuffled`, or a file of "
        "intervals",
    )
    genome: str = option("sample", "genome of the intervals: `sample`, a store or a sequence file")
    window: int = option(200, "bases of a window around an interval", low=16, high=100_000)
    center: tuple[str, ...] = option(
        None,
        "what of an interval is in the middle of its window: its middle, or its first or last base "
        "on its strand (start, end); for all classes, or one for each file",
        choices=CENTERS,
        factory=lambda: ("middle",),
    )
    signals: tuple[str, ...] = option(
        None,
        "bases that the intervals of each file begin with (center: start) or end with (end); "
        "intervals without them are left out",
        factory=tuple,
    )
    validation_fraction: float = option(
        0.05,
        "without test_contigs: the data.validation_fraction of the models, which is tested on",
        low=0.001,
        high=0.5,
    )
    dev_contigs: tuple[str, ...] = option(
        None, "contigs, or regions, to choose on; with test_contigs", factory=tuple
    )
    test_contigs: tuple[str, ...] = option(
        None,
        "contigs, or regions, to test on; none: the blocks that pretraining holds out",
        factory=tuple,
    )


def read_task(path: Path) -> Task:
    """The task that a YAML file describes.

    Raises
    ------
    UserError
        With one line for each problem.
    """
    task_file = load_as(TaskFile, path, (), broken_rules)
    if task_file.positives:
        return _interval_task(task_file, path)
    if not task_file.train:
        raise UserError(f"{path}: train: found no file, wanted the examples to train on")
    kind = _kind(task_file)
    layouts = {"train": task_file.train, "dev": task_file.dev, "test": task_file.test}
    return Task(
        name=task_file.name or path.stem,
        group="user",
        kind=kind,
        classes=task_file.classes,
        metric=task_file.metric or metric_names(kind)[0],
        length=task_file.length,
        source=task_file.source or str(path),
        files={
            split: Files(task_file.format, (names,)) for split, names in layouts.items() if names
        },
        dev_fraction=0.0 if task_file.dev else task_file.dev_fraction,
        test_fraction=0.0 if task_file.test else task_file.test_fraction,
        columns=(task_file.sequence_column, task_file.label_column),
        base=path.parent,
    )


def _interval_task(task_file: TaskFile, path: Path) -> Task:
    _check_interval_files(task_file, path)
    source = IntervalSource(
        genome=_genome(task_file.genome, path.parent),
        positives=task_file.positives,
        negatives=task_file.negatives,
        window=task_file.window,
        center=task_file.center,
        signals=tuple(signal.upper() for signal in task_file.signals),
        validation_fraction=task_file.validation_fraction,
        dev_contigs=task_file.dev_contigs,
        test_contigs=task_file.test_contigs,
    )
    has_dev = task_file.dev_contigs or not task_file.test_contigs
    splits = ("train", "dev", "test") if has_dev else ("train", "test")
    return Task(
        name=task_file.name or path.stem,
        group="user",
        kind=_kind(task_file),
        classes=task_file.classes,
        metric=task_file.metric or metric_names(_kind(task_file))[0],
        length=task_file.window,
        source=task_file.source or str(path),
        files={split: Files("intervals") for split in splits},
        dev_fraction=0.0 if has_dev else task_file.dev_fraction,
        base=path.parent,
        intervals=source,
    )


def _check_interval_files(task_file: TaskFile, path: Path) -> None:
    """Refuse names of files that are not there, before any model is loaded."""
    for key, names, kinds in (
        ("positives", task_file.positives, ()),
        ("negatives", (task_file.negatives,), NEGATIVES),
    ):
        for name in names:
            if name not in kinds and not split_feature(str(path.parent / name))[0].exists():
                wanted = ", ".join((*kinds, "or a file" if kinds else "a file"))
                raise UserError(
                    f"{path}: {key}: found {name}, which does not exist in {path.parent}, wanted "
                    f"{wanted} of intervals"
                )


def _genome(name: str, folder: Path) -> str:
    """A genome relative to the task file, if there is one; `sample` and other paths as they are."""
    path = folder / name
    return str(path) if name != "sample" and path.exists() else name


def _kind(task_file: TaskFile) -> str:
    return task_file.kind or ("binary" if len(task_file.classes) == 2 else "multiclass")


def broken_rules(task_file: TaskFile) -> Iterator[tuple[str, str]]:
    """(key, message) of each rule that a task file breaks."""
    kind, classes = _kind(task_file), len(task_file.classes)
    wanted = {
        "binary": (classes == 2, "two"),
        "multiclass": (classes >= 2, "two or more"),
        "multilabel": (classes >= 1, "one or more"),
        "regression": (classes == 0, "none"),
    }
    fits, number = wanted[kind]
    if not fits:
        yield "classes", f"classes: found {classes}, kind {kind} wants {number}"
    if len(set(task_file.classes)) < classes:
        yield "classes", "classes: a label is listed twice"
    metrics = metric_names(kind)
    if task_file.metric and task_file.metric not in metrics:
        yield (
            "metric",
            f"metric: found {task_file.metric!r}, wanted one of {', '.join(metrics)} (kind {kind})",
        )
    if task_file.positives:
        yield from _interval_rules(task_file, kind)
    else:
        yield from _file_rules(task_file, classes)


def _interval_rules(task_file: TaskFile, kind: str) -> Iterator[tuple[str, str]]:
    files, classes = len(task_file.positives), len(task_file.classes)
    if kind not in ("binary", "multiclass"):
        yield "kind", f"kind: found {kind}, positives want binary or multiclass"
    elif files != classes - 1 and classes > 1:
        yield (
            "positives",
            f"positives: found {files} for {classes} classes, wanted {classes - 1}: a file for "
            "each class but the first, which is that of the negatives",
        )
    if len(task_file.center) not in (1, files):
        yield "center", f"center: found {len(task_file.center)}, wanted 1 or {files}"
    yield from _signal_rules(task_file, files)
    for name in ("train", "dev", "test"):
        if getattr(task_file, name):
            yield name, f"{name}: found a file, but the splits of positives are made by place"
    if task_file.dev_contigs and not task_file.test_contigs:
        yield "dev_contigs", "dev_contigs: wanted test_contigs as well"


def _signal_rules(task_file: TaskFile, files: int) -> Iterator[tuple[str, str]]:
    signals = task_file.signals
    if signals and len(signals) != files:
        yield "signals", f"signals: found {len(signals)}, wanted one for each of {files} files"
    if not all(re.fullmatch("[ACGTacgt]{1,16}", signal) for signal in signals):
        yield "signals", f"signals: found {', '.join(signals)}, wanted bases (A, C, G, T)"
    if signals and "middle" in task_file.center:
        yield "signals", "signals: wanted center start or end, where the signal is"
    if task_file.negatives == "decoy" and not signals:
        yield "negatives", "negatives: decoy wants signals, which the decoys have"


def _file_rules(task_file: TaskFile, classes: int) -> Iterator[tuple[str, str]]:
    if task_file.format in ("fasta_classes", "folders") and not classes:
        yield "format", f"format: {task_file.format} needs classes"
    number = {"fasta_classes": classes, "fasta_table": 2}.get(task_file.format, 1)
    for split in ("train", "dev", "test"):
        names = getattr(task_file, split)
        if names and len(names) != number:
            yield (
                split,
                f"{split}: found {len(names)} files, format {task_file.format} wants {number}",
            )
