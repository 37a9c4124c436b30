"""Finished runs, read from their folders, and grouped: a group is one experiment with its seeds."""

import csv
import json
import re
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cmgems.config import Experiment, read
from cmgems.config_files import differences, load
from cmgems.errors import UserError
from cmgems.runs import FREE_TO_CHANGE
from cmgems.tensorboard_layout import plain

RESULTS = "results.json"


class Curve(NamedTuple):
    """A figure at the validations of a run."""

    steps: np.ndarray  # int64 [V], ascending
    values: np.ndarray  # float64 [V]


class Run(NamedTuple):
    """A finished run."""

    name: str
    path: Path
    experiment: Experiment
    results: dict[str, Any]
    curves: dict[str, Curve]  # by tag


class Group(NamedTuple):
    """Runs that differ in their seed alone, in the order of the seeds."""

    label: str
    runs: list[Run]

    @property
    def seeds(self) -> list[int]:
        return [run.experiment.seed for run in self.runs]


class Found(NamedTuple):
    groups: list[Group]
    unfinished: list[Path]  # folders of runs without results


def read_runs(paths: list[Path]) -> Found:
    """Read the runs in folders of runs, of sweeps, or of both.

    Raises
    ------
    UserError
        If there is no finished run, or one is there twice with the same seed.
    """
    folders: list[Path] = []
    for path in paths:
        folders += [folder for folder in _run_folders(path) if folder not in folders]
    finished = [folder for folder in folders if (folder / RESULTS).exists()]
    if not finished:
        listed = ", ".join(map(str, paths))
        raise UserError(f"{listed}: found no finished run (results.json), wanted at least one")
    runs = [read_run(folder) for folder in finished]
    return Found(grouped(runs), [folder for folder in folders if folder not in finished])


def read_run(folder: Path) -> Run:
    experiment = load(folder / "config.yaml")
    try:
        results = json.loads((folder / RESULTS).read_text())
    except ValueError as error:
        raise UserError(f"{folder / RESULTS}: damaged: {error}") from error
    return Run(experiment.name, folder, experiment, results, read_curves(folder / "metrics.csv"))


def read_curves(path: Path) -> dict[str, Curve]:
    """The curves of a metrics.csv, except those of single training steps."""
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    try:
        with open(path, newline="") as handle:
            for row in csv.DictReader(handle):
                if row["name"].startswith(("validation_", "probe/")):
                    points[row["name"]].append((int(row["step"]), float(row["value"])))
    except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a run's scalars (step,name,value): {error}") from error
    return {
        tag: Curve(np.array([step for step, _ in found]), np.array([v for _, v in found]))
        for tag, found in points.items()
    }


def grouped(runs: list[Run]) -> list[Group]:
    """Runs that differ in their seed alone, together; groups in the order of their first run."""
    sorted_out: list[list[Run]] = []
    for run in runs:
        same = next((g for g in sorted_out if not _differ(g[0].experiment, run.experiment)), None)
        if same is None:
            sorted_out.append([run])
        else:
            same.append(run)
    for group in sorted_out:
        group.sort(key=lambda run: run.experiment.seed)
        for one, other in pairwise(group):
            if one.experiment.seed == other.experiment.seed:
                raise UserError(
                    f"{one.path} and {other.path} are the same experiment with the same seed; "
                    f"wanted each once"
                )
    labels = _labels(sorted_out)
    return [Group(label, group) for label, group in zip(labels, sorted_out, strict=True)]


def varied_keys(groups: list[Group]) -> list[str]:
    """Config keys, the seed aside, that are not the same in all groups."""
    first = groups[0].runs[0].experiment
    found = {key for g in groups for key in _differ(first, g.runs[0].experiment)}
    return sorted(found)


def shown_value(run: Run, key: str) -> str:
    value = plain(read(run.experiment, key))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _differ(one: Experiment, other: Experiment) -> list[str]:
    changed = differences(one, replace(other, seed=one.seed))
    return [key for key in changed if key not in FREE_TO_CHANGE]


def _labels(groups: list[list[Run]]) -> list[str]:
    """The name of the first run without its seed; where two are alike, with its folder."""
    labels = [re.sub(r"[-_.]?seed=?\d+", "", group[0].name) or group[0].name for group in groups]
    return [
        label if labels.count(label) == 1 else f"{group[0].path.parent.name}/{group[0].path.name}"
        for label, group in zip(labels, groups, strict=True)
    ]


def _run_folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise UserError(f"{path}: no such folder, wanted a run or a sweep")
    if (path / "config.yaml").exists():
        return [path]
    found = sorted(config.parent for config in path.glob("*/config.yaml"))
    if not found:
        raise UserError(f"{path}: holds no runs, wanted a run folder or one with runs in it")
    return found
