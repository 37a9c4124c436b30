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
from zipfile import BadZipFile

import numpy as np

from cmgems.config.options import get_value
from cmgems.config.schema import Experiment
from cmgems.errors import UserError
from cmgems.evaluation.config import BASELINES
from cmgems.runs.experiment import diff, load
from cmgems.runs.folder import RESUMABLE_KEYS, WINDOW_SUMS, RunFolder
from cmgems.runs.tensorboard import plain
from cmgems.utils.intervals import Interval

RESULTS = "results.json"
EVALUATION = "evaluation.yaml"  # in the folder of an evaluation


class Curve(NamedTuple):
    """A metric at the validations of a run."""

    steps: np.ndarray  # int64 [E], ascending
    values: np.ndarray  # float64 [E]


class Run(NamedTuple):
    """A finished run."""

    name: str
    path: Path
    experiment: Experiment
    results: dict[str, Any]
    curves: dict[str, Curve]  # by tag
    window_sums: dict[str, np.ndarray]  # by name; older runs have none
    parent: Experiment | None = None  # of a branch: the experiment that it goes on from
    shorter: tuple["Run", ...] = ()  # of a branch: those from earlier steps of the same parent


class Group(NamedTuple):
    """Runs that differ in their seed alone, in the order of the seeds."""

    label: str
    runs: list[Run]

    @property
    def seeds(self) -> list[int]:
        return [run.experiment.seed for run in self.runs]


class ReferenceScore(NamedTuple):
    """The score of a model of an evaluation that is not a run: untrained, k-mer counts, ..."""

    name: str
    tag: str  # of the curve that the runs have from the same evaluation
    interval: Interval  # over replicates


class RunCollection(NamedTuple):
    """The runs in some folders, and the scores that evaluations give to other models."""

    groups: list[Group]
    unfinished: list[Path]  # folders of runs without results
    reference_scores: list[ReferenceScore]


def read_runs(paths: list[Path]) -> RunCollection:
    """Read runs from folders of runs and of sweeps, and their scores from folders of evaluations.

    Raises
    ------
    UserError
        If there is no finished run, a run is there twice with the same seed, or an evaluation
        scores none of them.
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
    reference_scores = [score for path in evaluations for score in add_scores(runs, path)]
    runs = fold_branches(runs)
    unfinished = [folder for folder in folders if folder not in finished]
    return RunCollection(group_by_experiment(runs), unfinished, reference_scores)


def read_run(folder: Path) -> Run:
    experiment = load(folder / "config.yaml")
    results = RunFolder(folder).read_results()
    curves, sums = read_curves(folder / "metrics.csv"), read_window_sums(folder / WINDOW_SUMS)
    path = RunFolder(folder).parent
    parent = load(path) if path.exists() else None
    return Run(experiment.name, folder, experiment, results, curves, sums, parent)


def read_window_sums(path: Path) -> dict[str, np.ndarray]:
    """What was measured at the end, by window; empty if the run has not kept it."""
    if not path.exists():
        return {}
    try:
        with open(path, "rb") as handle, np.load(handle) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(f"{path}: damaged: {error}") from error


# In which branches from several steps of one parent differ.
BUDGET_KEYS = ("train.max_steps", "branch.step", "optim.decay_steps", "validation.every_n_steps")


def fold_branches(runs: list[Run]) -> list[Run]:
    """The runs, where branches of one parent that differ in their budget alone are one: that of
    the largest budget, with the others as its `shorter`."""
    folded: list[Run] = []
    for run in sorted(runs, key=lambda run: -run.experiment.train.max_steps):
        for index, longer in enumerate(folded):
            if _is_shorter(run, longer):
                folded[index] = longer._replace(shorter=(run, *longer.shorter))
                break
        else:
            folded.append(run)
    order = [run.path for run in runs]
    return sorted(folded, key=lambda run: order.index(run.path))


def _is_shorter(run: Run, longer: Run) -> bool:
    if run.parent is None or run.experiment.seed != longer.experiment.seed:
        return False
    changed = _changed(run, longer)
    return "branch.step" in changed and set(changed) <= set(BUDGET_KEYS)


def read_curves(path: Path) -> dict[str, Curve]:
    """The curves of a metrics.csv, except those of single training steps."""
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    try:
        with open(path, newline="") as handle:
            for row in csv.DictReader(handle):
                if row["name"].startswith(("validation_", "final_", "judge_", "probe/")):
                    points[row["name"]].append((int(row["step"]), float(row["value"])))
    except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a run's scalars (step,name,value): {error}") from error
    return {tag: _make_curve(tag_points) for tag, tag_points in points.items()}


def add_scores(runs: list[Run], folder: Path) -> list[ReferenceScore]:
    """Add the mean scores of an evaluation to the runs, as curves; return those of other models.

    A run that was scored at its end has a curve of one point; a run of which checkpoints of
    several steps were scored has one point per checkpoint.
    """
    path = folder / RESULTS
    try:
        evaluation = json.loads(path.read_text())
        steps = {model["name"]: model["step"] for model in evaluation["models"]}
        points: dict[tuple[int, str], list[tuple[int, float]]] = defaultdict(list)
        reference_scores = []
        for row in evaluation["summaries"]:
            if not row["official"]:
                continue
            tag = _score_tag(evaluation["protocol"], row)
            index = _run_index(runs, Path(row["model"]))
            if index is not None:
                points[index, tag].append((steps[row["model"]], row["mean"]))
            elif row["model"] in BASELINES:
                low, high = (math.nan if row[end] is None else row[end] for end in ("low", "high"))
                interval = Interval(row["mean"], low, high, row["count"])
                reference_scores.append(ReferenceScore(row["model"], tag, interval))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not the results of an evaluation: {error!r}") from error
    if not points:
        raise UserError(f"{path}: scores none of the runs, wanted an evaluation of some of them")
    for (index, tag), run_points in points.items():
        runs[index].curves[tag] = _make_curve(sorted(run_points))
    return reference_scores


def _score_tag(protocol: str, row: dict[str, Any]) -> str:
    shots = f" {row['shots']}" if row["shots"] else ""
    return f"scored_{protocol}/{row['task']}{shots}/{row['metric']}"


def _run_index(runs: list[Run], model: Path) -> int | None:
    """Which run a model of an evaluation is: the run's folder, or a checkpoint in it."""
    model = model.resolve()
    for index, run in enumerate(runs):
        if run.path.resolve() in (model, *model.parents):
            return index
    return None


def _make_curve(points: list[tuple[int, float]]) -> Curve:
    return Curve(np.array([step for step, _ in points]), np.array([value for _, value in points]))


def group_by_experiment(runs: list[Run]) -> list[Group]:
    """Runs that differ in their seed alone, together; groups in the order of their first run."""
    groups: list[list[Run]] = []
    for run in runs:
        group = next((g for g in groups if not _changed(g[0], run)), None)
        if group is None:
            groups.append([run])
        else:
            group.append(run)
    for group in groups:
        group.sort(key=lambda run: run.experiment.seed)
        for a, b in pairwise(group):
            if a.experiment.seed == b.experiment.seed:
                raise UserError(
                    f"{a.path} and {b.path} are the same experiment with the same seed; wanted "
                    f"each once"
                )
    return [Group(label, group) for label, group in zip(_labels(groups), groups, strict=True)]


def varied_keys(groups: list[Group]) -> list[str]:
    """Config keys, the seed aside, that are not the same in all groups."""
    first = groups[0].runs[0]
    keys = {key for group in groups for key in _changed(first, group.runs[0])}
    return sorted(keys)


def format_value(run: Run, key: str) -> str:
    """The value of a config key as it is shown in a table."""
    experiment = run.experiment
    if key.startswith(PARENT):
        if run.parent is None:
            return "-"
        experiment, key = run.parent, key.removeprefix(PARENT)
    value = plain(get_value(experiment, key))
    return f"{value:g}" if isinstance(value, float) else str(value)


PARENT = "parent."  # before the keys of the experiment that a branch goes on from
# Where a branch came from: its parent's experiment says what that was, whatever its seed.
ORIGIN_KEYS = ("branch.run", "branch.sha256")


def _changed(a: Run, b: Run) -> list[str]:
    """The keys, the seed aside, that make two runs different experiments."""
    keys = _changed_keys(a.experiment, b.experiment)
    if a.parent and b.parent:
        keys += [PARENT + key for key in _changed_keys(a.parent, b.parent)]
    return keys


def _changed_keys(a: Experiment, b: Experiment) -> list[str]:
    ignored = {*RESUMABLE_KEYS, *ORIGIN_KEYS}
    return [key for key in diff(a, replace(b, seed=a.seed)) if key not in ignored]


def _labels(groups: list[list[Run]]) -> list[str]:
    """The name of the first run without its seed, and without the step where branches of several
    budgets are one; where two are alike, with its number of steps, or else with its folder."""
    names = []
    for group in groups:
        name = group[0].name
        if group[0].parent:
            name = re.sub(r"-step\d+$", "", name)
        names.append(re.sub(r"[-_.]?seed=?\d+", "", name) or name)
    steps = [group[0].experiment.train.max_steps for group in groups]
    labels = []
    for group, name, count in zip(groups, names, steps, strict=True):
        alike = [other for other, title in zip(steps, names, strict=True) if title == name]
        if len(alike) == 1:
            labels.append(name)
        elif alike.count(count) == 1:
            labels.append(f"{name}, {count:,} steps")
        else:
            labels.append(f"{group[0].path.parent.name}/{group[0].path.name}")
    return labels


def _run_folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise UserError(f"{path}: no such folder, wanted a run or a sweep")
    if (path / "config.yaml").exists():
        return [path]
    folders = sorted(config.parent for config in path.glob("*/config.yaml"))
    if not folders:
        raise UserError(f"{path}: holds no runs, wanted a run folder or one with runs in it")
    return folders
