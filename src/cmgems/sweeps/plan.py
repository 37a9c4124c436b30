"""The runs of a sweep, from its axes; every one is checked before the first starts."""

import json
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from cmgems.config.schema import Experiment, iter_keys
from cmgems.errors import UserError
from cmgems.runs.experiment import load
from cmgems.sweeps.config import SweepFile, sweep_folder

SHOWN = 3  # names of runs in a message


class Point(NamedTuple):
    """A place on an axis, or where several axes cross."""

    name: str
    values: dict[str, Any]  # by dotted config key


class Planned(NamedTuple):
    """A run that is to be."""

    name: str
    folder: Path
    experiment: Experiment


def points(file: SweepFile) -> list[Point]:
    """Where the axes cross: all with all in a grid, side by side in a list.

    Raises
    ------
    UserError
        If an axis is not what it has to be, or two runs would have one name.
    """
    axes = [_axis(file.path, name, value) for name, value in _named_axes(file.sweep.axes)]
    if file.sweep.mode == "list":
        lengths = [len(axis) for axis in axes]
        if len(set(lengths)) > 1:
            raise UserError(
                f"{file.path}: axes: found {', '.join(map(str, lengths))} points, mode list wants "
                f"the same number on each axis"
            )
        crossings = list(zip(*axes, strict=True))
    else:
        crossings = list(product(*axes))
    found = [_joined(crossing) for crossing in crossings]
    names = [point.name for point in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{file.path}: axes: two runs would be named {name}, wanted one")
    return found


def plan(file: SweepFile, chosen: list[Point]) -> list[Planned]:
    """The experiment of each point, resolved and checked, in its folder.

    Raises
    ------
    UserError
        With all problems of all runs; one that several runs share is told once.
    """
    planned, problems = [], {}
    for point in chosen:
        try:
            planned.append(_planned(file, point))
        except UserError as error:
            for line in str(error).splitlines():
                problems.setdefault(line, []).append(point.name)
    if problems:
        raise UserError("\n".join(f"{_runs(names)}: {line}" for line, names in problems.items()))
    return planned


def matching(file: SweepFile, planned: list[Planned]) -> list[Planned]:
    """Those that `only` names; all, if it is empty."""
    pattern = file.sweep.only
    kept = [run for run in planned if fnmatchcase(run.name, pattern or "*")]
    if not kept:
        names = ", ".join(run.name for run in planned[:SHOWN])
        raise UserError(f"only: found {pattern!r}, which no run matches; they are named {names}, …")
    return kept


def flat(values: dict, prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys."""
    found = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _planned(file: SweepFile, point: Point) -> Planned:
    folder = sweep_folder(file) / point.name
    values = flat(file.sweep.set) | point.values
    own = [key for key in (*values, *file.overrides) if key.startswith(("run.", "name"))]
    if own:
        raise UserError(f"{own[0]}: a sweep names its runs and their folders itself")
    overrides = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    # Behind the file's own, but never over what an axis says.
    varied = set(point.values)
    clash = [text for text in file.overrides if text.partition("=")[0] in varied]
    if clash:
        raise UserError(f"`{clash[0]}`: this key is an axis of the sweep")
    overrides += [*file.overrides, f"name={json.dumps(point.name)}"]
    overrides.append(f"run.dir={json.dumps(str(folder))}")
    return Planned(point.name, folder, load(file.path.parent / file.sweep.base, overrides))


def _named_axes(axes: dict) -> list[tuple[str, Any]]:
    """An override `axes.optim.learning_rate=[...]` comes nested: as a dotted key."""
    keys = {key for key, _ in iter_keys()}
    found: dict[str, Any] = {}
    for name, value in axes.items():
        nested = flat({name: value})
        found |= nested if nested and keys.issuperset(nested) else {name: value}
    return list(found.items())


def _axis(path: Path, name: str, value: Any) -> list[Point]:
    keys = {key for key, _ in iter_keys()}
    if isinstance(value, dict) and value and name not in keys:
        for point, settings in value.items():
            if not isinstance(settings, dict):
                raise UserError(
                    f"{path}: axes.{name}.{point}: found {settings!r}, wanted `key: value` lines"
                )
        return [Point(str(point), flat(settings)) for point, settings in value.items()]
    if not isinstance(value, list) or not value:
        wanted = "a list of values" if name in keys else "named points, or a config key as name"
        raise UserError(f"{path}: axes.{name}: found {value!r}, wanted {wanted}")
    return [Point(_value_name(name, entry), {name: entry}) for entry in value]


def _value_name(key: str, value: Any) -> str:
    """A word for the run's name: text stands for itself, a number needs to say what it is of."""
    if isinstance(value, list):
        return "+".join(map(str, value))
    if isinstance(value, str):
        return "".join(letter if letter.isalnum() or letter in "._" else "_" for letter in value)
    return f"{key.rpartition('.')[2]}{json.dumps(value)}"


def _joined(crossing: tuple[Point, ...]) -> Point:
    values: dict[str, Any] = {}
    for point in crossing:
        values |= point.values
    return Point("-".join(point.name for point in crossing), values)


def _runs(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
