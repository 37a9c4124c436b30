"""Finished runs, read from their folders, and grouped: a group is one experiment with its seeds."""

import csv
import json
import math
import re
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cmgems.config.schema import Experiment, get_value
from cmgems.errors import UserError
from cmgems.evaluation.config import BASELINES
from cmgems.runs.experiment import diff, load
from cmgems.runs.folder import RESUMABLE_KEYS
from cmgems.runs.tensorboard import plain
from cmgems.utils.intervals import Interval

RESULTS = "results.json"
EVALUATION = "evaluation.yaml"  # in the folder of an evaluation


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


class Beside(NamedTuple):
    """A model of an evaluation that is no run: an untrained encoder, k-mer counts, ..."""

    name: str
    tag: str  # of the curve that the runs have of the same evaluation
    interval: Interval  # over draws


class Found(NamedTuple):
    groups: list[Group]
    unfinished: list[Path]  # folders of runs without results
    beside: list[Beside]


def read_runs(paths: list[Path]) -> Found:
    """Read the runs in folders of runs and of sweeps, and what folders of evaluations say of them.

    Raises
    ------
    UserError
        If there is no finished run, one is there twice with the same seed, or an evaluation scores
        none of them.
    """
    evaluations = [path for path in paths if (path / EVALUATION).exists()]
    folders: list[Path] = []
    for path in paths:
        if path not in evaluations:
            folders += [folder for folder in _run_folders(path) if folder not in folders]
    finished = [folder for folder in folders if (folder / RESULTS).exists()]
    if not finished:
        listed = ", ".join(map(str, paths))
        raise UserError(f"{listed}: found no finished run (results.json), wanted at least one")
    runs = [read_run(folder) for folder in finished]
    beside = [one for path in evaluations for one in add_scores(runs, path)]
    return Found(grouped(runs), [folder for folder in folders if folder not in finished], beside)


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
    return {tag: _curve(found) for tag, found in points.items()}


def add_scores(runs: list[Run], folder: Path) -> list[Beside]:
    """Give each run its mean scores in an evaluation, as points of curves: one where the run was
    scored at its end, several where checkpoints of several steps were. Returns the other models.
    """
    path = folder / RESULTS
    try:
        found = json.loads(path.read_text())
        steps = {model["name"]: model["step"] for model in found["models"]}
        points: dict[tuple[int, str], list[tuple[int, float]]] = defaultdict(list)
        beside = []
        for row in found["summaries"]:
            if not row["official"]:
                continue
            shots = f" {row['shots']}" if row["shots"] else ""
            tag = f"scored_{found['protocol']}/{row['task']}{shots}/{row['metric']}"
            place = _place(runs, Path(row["model"]))
            if place is not None:
                points[place, tag].append((steps[row["model"]], row["mean"]))
            elif row["model"] in BASELINES:
                low, high = (math.nan if row[end] is None else row[end] for end in ("low", "high"))
                interval = Interval(row["mean"], low, high, row["count"])
                beside.append(Beside(row["model"], tag, interval))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not the results of an evaluation: {error!r}") from error
    if not points:
        raise UserError(f"{path}: scores none of the runs, wanted an evaluation of some of them")
    for (place, tag), its in points.items():
        runs[place].curves[tag] = _curve(sorted(its))
    return beside


def _place(runs: list[Run], model: Path) -> int | None:
    """Which run a model of an evaluation is: the run's folder, or a checkpoint in it."""
    model = model.resolve()
    for place, run in enumerate(runs):
        if run.path.resolve() in (model, *model.parents):
            return place
    return None


def _curve(points: list[tuple[int, float]]) -> Curve:
    return Curve(np.array([step for step, _ in points]), np.array([value for _, value in points]))


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
    value = plain(get_value(run.experiment, key))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _differ(one: Experiment, other: Experiment) -> list[str]:
    changed = diff(one, replace(other, seed=one.seed))
    return [key for key in changed if key not in RESUMABLE_KEYS]


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
