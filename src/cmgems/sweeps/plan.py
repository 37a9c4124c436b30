"""The runs of a sweep, from its axes; all are checked before the first one starts."""

import json
from collections import Counter
from fnmatch import fnmatchcase
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from cmgems.config.options import iter_keys
from cmgems.config.schema import Experiment
from cmgems.errors import UserError
from cmgems.runs.experiment import load
from cmgems.sweeps.config import SweepFile

MAX_NAMES_SHOWN = 3  # of runs, in a message
MAX_RUNS = 10_000  # of a grid, which are all checked before the first one
MAX_NAME = 200  # bytes of a run's name: file systems allow 255 for that of its folder


class Point(NamedTuple):
    """Settings of config keys: one point of an axis, or of several axes together."""

    name: str
    values: dict[str, Any]  # by dotted config key


class PlannedRun(NamedTuple):
    """A run of the sweep, whether it has begun or not."""

    name: str
    folder: Path
    experiment: Experiment


def cross_axes(sweep_file: SweepFile) -> list[Point]:
    """One point per run: all with all in a grid, the n-th of each axis together in a list.

    Raises
    ------
    UserError
        If an axis is not what it has to be, a folder of the sweep cannot have the name of a run, or
        two runs would have the same name.
    """
    path = sweep_file.path
    axes = [_parse_axis(path, name, value) for name, value in _named_axes(sweep_file.sweep.axes)]
    if sweep_file.sweep.mode == "list":
        lengths = [len(axis) for axis in axes]
        if len(set(lengths)) > 1:
            raise UserError(
                f"{path}: axes: found {', '.join(map(str, lengths))} points, mode list wants the "
                f"same number on each axis"
            )
        combinations = list(zip(*axes, strict=True))
    else:
        runs = prod(len(axis) for axis in axes)
        if runs > MAX_RUNS:
            raise UserError(f"{path}: axes: found {runs:,} runs, wanted at most {MAX_RUNS:,}")
        combinations = list(product(*axes))
    points = [_combine(combination) for combination in combinations]
    for name, count in Counter(point.name for point in points).items():
        if not _is_folder_name(name):
            raise UserError(
                f"{path}: axes: found the name {name!r}, wanted one that a folder in that of "
                f"the sweep can have: 1 to {MAX_NAME} bytes that can be printed, without "
                "`/`, neither `.` nor `..`"
            )
        if count > 1:
            raise UserError(f"{path}: axes: two runs would be named {name}, wanted one")
    return points


def plan_runs(sweep_file: SweepFile, points: list[Point]) -> list[PlannedRun]:
    """The experiment of each point, resolved and checked, with its folder.

    Raises
    ------
    UserError
        With all problems of all runs; a problem that several runs share is reported once.
    """
    planned = []
    runs_by_problem: dict[str, list[str]] = {}
    for point in points:
        try:
            planned.append(_plan_run(sweep_file, point))
        except UserError as error:
            for line in str(error).splitlines():
                runs_by_problem.setdefault(line, []).append(point.name)
    if runs_by_problem:
        lines = (f"{_list_names(names)}: {line}" for line, names in runs_by_problem.items())
        raise UserError("\n".join(lines))
    return planned


def select_runs(sweep_file: SweepFile, planned: list[PlannedRun]) -> list[PlannedRun]:
    """The runs that the key `only` names; all, if it is empty."""
    pattern = sweep_file.sweep.only
    selected = [run for run in planned if fnmatchcase(run.name, pattern or "*")]
    if not selected:
        names = ", ".join(run.name for run in planned[:MAX_NAMES_SHOWN])
        raise UserError(f"only: found {pattern!r}, which no run matches; they are named {names}, …")
    return selected


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _plan_run(sweep_file: SweepFile, point: Point) -> PlannedRun:
    folder = sweep_file.folder / point.name
    values = flatten(sweep_file.sweep.set) | point.values
    reserved = [key for key in (*values, *sweep_file.overrides) if key.startswith(("run.", "name"))]
    if reserved:
        raise UserError(f"{reserved[0]}: a sweep names its runs and their folders itself")
    clash = [text for text in sweep_file.overrides if text.partition("=")[0] in point.values]
    if clash:
        raise UserError(f"`{clash[0]}`: this key is an axis of the sweep")
    # Later overrides win: those of the command line over those of the file.
    overrides = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    overrides += [*sweep_file.overrides, f"name={json.dumps(point.name)}"]
    overrides.append(f"run.dir={json.dumps(str(folder))}")
    base = sweep_file.path.parent / sweep_file.sweep.base
    return PlannedRun(point.name, folder, load(base, overrides))


def _named_axes(axes: dict[str, Any]) -> list[tuple[str, Any]]:
    """Axes by name; an override `axes.optim.learning_rate=[...]`, which is nested, by its key."""
    keys = {key for key, _ in iter_keys(Experiment)}
    named: dict[str, Any] = {}
    for name, value in axes.items():
        flat = flatten({name: value})
        named |= flat if flat and keys.issuperset(flat) else {name: value}
    return list(named.items())


def _parse_axis(path: Path, name: str, value: Any) -> list[Point]:
    keys = {key for key, _ in iter_keys(Experiment)}
    if isinstance(value, dict) and value and name not in keys:
        for point, settings in value.items():
            if not isinstance(settings, dict):
                raise UserError(
                    f"{path}: axes.{name}.{point}: found {settings!r}, wanted `key: value` lines"
                )
        return [Point(str(point), flatten(settings)) for point, settings in value.items()]
    if not isinstance(value, list) or not value:
        wanted = "a list of values" if name in keys else "named points, or a config key as name"
        raise UserError(f"{path}: axes.{name}: found {value!r}, wanted {wanted}")
    return [Point(_value_name(name, entry), {name: entry}) for entry in value]


def _is_folder_name(name: str) -> bool:
    """Whether it names a folder in another one, and not that one, its parent or any other."""
    length = len(name.encode(errors="replace"))
    return (
        0 < length <= MAX_NAME
        and name not in (".", "..")
        and "/" not in name
        and name.isprintable()
    )


def _value_name(key: str, value: Any) -> str:
    """The part of a run's name for a value: text as it is, a number with the key's last word."""
    if isinstance(value, list):
        return "+".join(str(entry).replace("/", "_") for entry in value)
    if isinstance(value, str):
        return "".join(letter if letter.isalnum() or letter in "._" else "_" for letter in value)
    return f"{key.rpartition('.')[2]}{json.dumps(value)}"


def _combine(points: tuple[Point, ...]) -> Point:
    values: dict[str, Any] = {}
    for point in points:
        values |= point.values
    return Point("-".join(point.name for point in points), values)


def _list_names(names: list[str]) -> str:
    more = len(names) - MAX_NAMES_SHOWN
    return ", ".join(names[:MAX_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
