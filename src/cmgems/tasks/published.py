"""The published tasks, read from `published_tasks.yaml`; docs/tasks.md shows them."""

from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Any

import yaml

from cmgems.genome.cache import sample_path
from cmgems.tasks.interval_task import IntervalSource
from cmgems.tasks.task import Files, PublishedRecipe, Task


def read_published(text: str) -> dict[str, Task]:
    """The tasks of `published_tasks.yaml`, by name; the file says what its keys mean."""
    tasks = {}
    for group, contents in yaml.safe_load(text).items():
        for key, fields in contents["tasks"].items():
            name = contents["prefix"] + key
            category = _category(key, contents.get("categories", {}))
            tasks[name] = _task(name, group, key, contents["all"] | fields | category)
    return tasks


def _category(key: str, categories: dict[str, list[str]]) -> dict[str, str]:
    """The first category with a pattern that the key of a task fits."""
    for name, patterns in categories.items():
        if any(fnmatchcase(key, pattern) for pattern in patterns):
            return {"category": name}
    return {}


def _task(name: str, group: str, key: str, fields: dict[str, Any]) -> Task:
    classes = fields.pop("classes")
    classes = tuple(map(str, range(classes) if isinstance(classes, int) else classes))
    by_split = fields.pop("files", {})
    by_shots = fields.pop("shot_files", {})
    intervals = fields.pop("intervals", None)
    if intervals is not None:
        keys: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in intervals.items()
        }
        intervals = IntervalSource(**keys, window=fields["length"])
        if intervals.genome == "sample":
            fields["base"] = sample_path().parent
    return Task(
        name=name,
        intervals=intervals,
        group=group,
        kind="multiclass" if len(classes) > 2 else "binary",
        classes=classes,
        files={split: _files(key, split, entry) for split, entry in by_split.items()},
        shot_files={shots: _files(key, "train", entry) for shots, entry in by_shots.items()},
        recipe=PublishedRecipe(**fields.pop("recipe", {})),
        **fields,
    )


def _files(key: str, split: str, entry: dict[str, Any]) -> Files:
    layouts = [path.format(task=key, split=split) for path in entry.get("layouts", ())]
    return Files(entry["format"], tuple((path,) for path in layouts))


TASKS = read_published((files(__package__) / "published_tasks.yaml").read_text(encoding="utf-8"))


def task_table() -> str:
    """The registry in Markdown, for docs/tasks.md."""
    lines = [
        "| task | what | classes | bases | official metric | published shots per class |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for task in TASKS.values():
        shots = ", ".join(map(str, task.shots)) or "-"
        cells = (f"`{task.name}`", task.group, len(task.classes), task.length or "varies")
        lines.append(f"| {' | '.join(map(str, cells))} | {task.metric} | {shots} |")
    return "\n".join(lines) + "\n"
