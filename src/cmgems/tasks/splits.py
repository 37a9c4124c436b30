"""The examples of a task: its splits as published, and few-shot replicates.

`read_split` gives a split. Where a task has no file for it, the split is held out, always the same
examples: of `train` for dev, and for the test of a few-shot task of its largest file.

`few_shot` gives the published examples, or a replicate: a random sample of our own of everything
that is not test. Replicates are nested: the examples of 10 shots are among those of 50 shots of the
same replicate.
"""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from cmgems.downloads.fetch import tasks_folder
from cmgems.errors import UserError
from cmgems.tasks import synthetic
from cmgems.tasks.dataset import LabelledSequences, canonical_keys, concatenate
from cmgems.tasks.interval_task import read_interval_split
from cmgems.tasks.readers import READERS, read_examples
from cmgems.tasks.task import Files, Task
from cmgems.utils.rng import generator

Stamps: TypeAlias = tuple[tuple[str, int, int], ...]  # path, bytes, modification time in ns


class TooFewExamples(UserError):
    """A task has no training set with so many examples per class."""


def read_split(
    task: Task, split: str, root: str | Path = "", min_length: int = 1
) -> LabelledSequences:
    """All examples of a split, in the order of the file.

    Parameters
    ----------
    task : from `tasks.task`
    split : train, dev or test
    root : folder with the published files, as in docs/tasks.md; empty: what `cmgems data` fetched
    min_length : bases; a shorter sequence is refused (`Tokenization.min_bases`)

    Raises
    ------
    UserError
        If the task has no such split or its files cannot be used.
    """
    if split not in task.splits:
        raise UserError(
            f"task {task.name}: found no {split} split, it has {', '.join(task.splits)}"
        )
    if split in task.files and not _is_held_out(task, split):
        return _load(task, task.files[split], split, root, min_length)
    return getattr(
        _held_out_splits(task, _folder(root), min_length, _file_stamps(task, root)), split
    )


def few_shot(
    task: Task,
    shots: int,
    replicate: int | None,
    root: str | Path = "",
    seed: int = 0,
    min_length: int = 1,
) -> LabelledSequences:
    """A small training set: `shots` examples of each class (in all, where there are no classes).

    Parameters
    ----------
    task, root, min_length : as for `read_split`
    shots : examples per class
    replicate : number of our own sample, from 0; None for the publishers' file
    seed : another seed, other replicates; the published file has none

    Raises
    ------
    TooFewExamples
        If there is no file for so many shots, or a class has fewer examples outside the test split.
    UserError
        If the files cannot be used.
    """
    if replicate is None:
        return _published(task, shots, root, min_length)
    pool = few_shot_pool(task, root, min_length)
    # The name of the random stream is part of the results: other words, other examples.
    rng = generator(seed, f"shots of {task.name}, draw {replicate}")
    chosen = []
    for name, members in _by_class(task, pool):
        if shots > len(members):
            raise TooFewExamples(
                f"task {task.name}: found {shots} shots, wanted at most {len(members)}, the "
                f"examples{name} that are not in the test split"
            )
        # The whole class is put in order, whatever `shots` is: so replicates are nested.
        chosen.append(rng.permutation(members)[:shots])
    return pool.select(np.concatenate(chosen))


def few_shot_pool(task: Task, root: str | Path = "", min_length: int = 1) -> LabelledSequences:
    """What `few_shot` samples: the distinct training examples that are not in the test split.

    A sequence and its reverse complement count as one.
    """
    return _pool(task, _folder(root), min_length, _file_stamps(task, root))


def read_published_examples(
    task: Task, root: str | Path = "", min_length: int = 1
) -> LabelledSequences:
    """All training examples that the publishers give, with repetitions: for the leakage check.

    Where the test split is held out of them, those that are left.
    """
    if _is_held_out(task, "test"):
        return read_split(task, "train", root, min_length)
    if "train" in task.files:
        return _load(task, task.files["train"], "train", root, min_length)
    return concatenate(_published_shots(task, root, min_length))


@lru_cache(maxsize=4)
def _pool(task: Task, root: Path, min_length: int, stamps: Stamps) -> LabelledSequences:
    train = read_split(task, "train", root, min_length)
    seen = (
        set(canonical_keys(read_split(task, "test", root, min_length)))
        if "test" in task.splits
        else set()
    )
    return train.select(_first_occurrences(train, seen))


def _published(task: Task, shots: int, root: str | Path, min_length: int) -> LabelledSequences:
    if shots not in task.shot_files:
        published = ", ".join(map(str, task.shots)) or "no shots"
        raise TooFewExamples(f"task {task.name}: found {shots} shots, published are {published}")
    if _is_held_out(task, "test") and shots == max(task.shots):
        raise UserError(
            f"task {task.name}: the published file of {shots} shots has the test split held out of "
            f"it, wanted fewer shots or few_shot.published=false"
        )
    return _load(task, task.shot_files[shots], f"{shots} shots", root, min_length)


def _by_class(task: Task, data: LabelledSequences) -> list[tuple[str, np.ndarray]]:
    """(name for messages, index of its examples) of each class, or of all examples at once."""
    if task.kind not in ("binary", "multiclass"):
        return [("", np.arange(len(data)))]
    return [
        (f" of class {name}", np.flatnonzero(data.labels == number))
        for number, name in enumerate(task.classes)
    ]


class _Splits(NamedTuple):
    train: LabelledSequences
    dev: LabelledSequences | None
    test: LabelledSequences | None


def _is_held_out(task: Task, split: str) -> bool:
    """Whether a split is not the whole content of its file."""
    if split == "train":
        return any(_is_held_out(task, other) for other in ("dev", "test") if other in task.splits)
    return split in task.splits and split not in task.files


@lru_cache(maxsize=4)
def _held_out_splits(task: Task, root: Path, min_length: int, stamps: Stamps) -> _Splits:
    """Splits of which at least one has no file. `stamps` make a changed file be read again."""
    if "train" in task.files:
        train = _load(task, task.files["train"], "train", root, min_length)
        may_be_test = np.ones(len(train), bool)
    else:
        train, may_be_test = _all_shots(task, root, min_length)
    dev = test = None
    if _is_held_out(task, "test"):
        train, test = _divide(task, train, task.test_fraction, "test", may_be_test)
    if _is_held_out(task, "dev"):
        train, dev = _divide(task, train, task.dev_fraction, "dev", np.ones(len(train), bool))
    return _Splits(train, dev, test)


def _all_shots(task: Task, root: Path, min_length: int) -> tuple[LabelledSequences, np.ndarray]:
    """The distinct examples of all few-shot files, and which of them are in the largest one alone.

    The others may have been trained on by other users, so they must not become test examples.
    """
    parts = _published_shots(task, root, min_length)
    data = concatenate(parts)
    test: set[bytes] = set()
    if "test" in task.files:
        test = set(canonical_keys(_load(task, task.files["test"], "test", root, min_length)))
    first = _first_occurrences(data, test)
    return data.select(first), first >= len(data) - len(parts[-1])


def _published_shots(task: Task, root: str | Path, min_length: int) -> list[LabelledSequences]:
    """The published few-shot files, from few to many shots."""
    return [_load(task, task.shot_files[n], f"{n} shots", root, min_length) for n in task.shots]


def _first_occurrences(data: LabelledSequences, seen: set[bytes]) -> np.ndarray:
    """Index of the examples whose sequence is neither in `seen` nor that of an earlier example."""
    seen, first = set(seen), []
    for number, key in enumerate(canonical_keys(data)):
        if key not in seen:
            seen.add(key)
            first.append(number)
    return np.array(first, np.int64)


class _Division(NamedTuple):
    rest: LabelledSequences
    held_out: LabelledSequences


def _divide(
    task: Task, data: LabelledSequences, fraction: float, purpose: str, allowed: np.ndarray
) -> _Division:
    """Hold examples out, the same fraction of each class, chosen among the allowed ones.

    Copies of a sequence stay together, and so do the examples of a pair.
    """
    rng = generator(0, f"{purpose} of {task.name}")
    chosen: list[int] = []
    classes = _by_class(task, data)
    for name, members in classes[-1:] if task.paired else classes:
        members = members[allowed[members]]
        count = round(fraction * len(members))
        if not count:
            raise UserError(
                f"task {task.name}: {fraction:g} of {len(members)} examples{name} is none, wanted "
                f"more examples or a larger {purpose}_fraction"
            )
        chosen += rng.permutation(members)[:count].tolist()
    names = list(data.names or ()) if task.paired else canonical_keys(data)
    chosen_names = {names[i] for i in chosen}
    held_out = np.array([name in chosen_names for name in names])
    return _Division(data.select(np.flatnonzero(~held_out)), data.select(np.flatnonzero(held_out)))


def _load(
    task: Task, files: Files, split: str, root: str | Path, min_length: int
) -> LabelledSequences:
    if task.intervals is not None:
        return read_interval_split(task.intervals, split, _folder_of_sites(task, root))
    if not files.layouts:
        return synthetic.MAKERS[files.format](split)
    paths = _resolve(task, files, root)
    if files.format in READERS:
        return read_examples(files.format, paths, task.read_options(min_length))
    return synthetic.FROM_FILES[files.format](paths, task.read_options(min_length))


def _folder_of_sites(task: Task, root: str | Path) -> Path:
    if task.base is not None:
        return task.base
    if not str(root):
        assert task.intervals is not None
        raise UserError(
            f"tasks.root: found nothing, wanted the folder with the files of {task.name} "
            f"(sites/{task.intervals.positives[0]}; see docs/tasks.md)"
        )
    return Path(root).expanduser() / "sites"


def _resolve(task: Task, files: Files, root: str | Path) -> list[Path]:
    """The paths of the files: those of the first layout that is complete."""
    folder = task.base.expanduser() if task.base is not None else _folder(root)
    for layout in files.layouts:
        for ending in ("", ".gz"):
            paths = [folder / f"{name}{ending}" for name in layout]
            if all(path.exists() for path in paths):
                return paths
    if folder == tasks_folder():
        raise UserError(
            f"tasks.root: found nothing, wanted the folder with the files of {task.name} "
            f"({files.layouts[0][0]}; see docs/tasks.md), or those that `cmgems data get` fetches"
        )
    missing = next(name for name in files.layouts[0] if not (folder / name).exists())
    raise UserError(
        f"{folder / missing}: does not exist, wanted by task {task.name}; it comes from "
        f"{task.source}"
    )


def _folder(root: str | Path) -> Path:
    """The folder of the published files; where none is named, that of the fetched ones."""
    return Path(root).expanduser() if str(root) else tasks_folder()


def _file_stamps(task: Task, root: str | Path) -> Stamps:
    """Path, size and time of the files of a task."""
    stamps = []
    for files in (*task.files.values(), *task.shot_files.values()):
        for path in _resolve(task, files, root) if files.layouts else ():
            status = path.stat()
            stamps.append((str(path), status.st_size, status.st_mtime_ns))
    return tuple(stamps)
