"""The scores of an evaluation as means with intervals, comparisons, a table and TensorBoard."""

import math
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from cmgems.evaluation.context import Result
from cmgems.evaluation.trials import FULL
from cmgems.tasks.audit import Audit, audit_table
from cmgems.tasks.task import Task, metric_names
from cmgems.utils.intervals import ReplicateScores, compare_by_task, summarize
from cmgems.utils.text_table import text_table

SECOND_METRIC = "auroc"  # shown next to the official metric where a task has it


def summaries(results: list[Result], tasks: Mapping[str, Task]) -> dict[str, list[dict]]:
    """`summaries`, one per model, task, shots and metric, and `comparisons` of pairs of models."""
    return {
        "summaries": [
            {
                "model": model,
                "task": task,
                "shots": shots,
                "metric": metric,
                "official": metric == tasks[task].metric,
                "collapsed": sum(r.scores.collapsed for r in cell),
                **_nan_to_none(summarize(replicate_values(cell, metric))._asdict()),
            }
            for (model, task, shots), cell in group_by_cell(results).items()
            for metric in metric_names(tasks[task].kind)
        ],
        "comparisons": _comparisons(results, tasks),
    }


def group_by_cell(results: list[Result]) -> dict[tuple[str, str, int], list[Result]]:
    """The results of each model on each task and number of shots."""
    cells: dict[tuple[str, str, int], list[Result]] = {}
    for result in results:
        cells.setdefault((result.trial.model, result.trial.task, result.trial.shots), []).append(
            result
        )
    return cells


def replicate_values(results: list[Result], metric: str) -> ReplicateScores:
    """values[replicate][seed] of one cell."""
    replicates: dict[int, list[tuple[int, float]]] = {}
    for result in results:
        by_seed = replicates.setdefault(result.trial.replicate, [])
        by_seed.append((result.trial.seed, getattr(result.scores, metric)))
    return [[value for _, value in sorted(by_seed)] for _, by_seed in sorted(replicates.items())]


def _comparisons(results: list[Result], tasks: Mapping[str, Task]) -> list[dict]:
    """Every pair of models by the official metric, corrected for the tasks and numbers of shots.

    Seeds of a replicate are averaged first: a baseline has none to pair them with.
    """
    cells = group_by_cell(results)
    by_model: dict[str, dict[str, ReplicateScores]] = {}
    for (model, task, shots), cell in cells.items():
        values = replicate_values(cell, tasks[task].metric)
        if len(values) > 1:
            values = [[float(np.mean(seeds))] for seeds in values]
        by_model.setdefault(model, {})[f"{task} {shots}"] = values
    comparisons = []
    for first, second in combinations(by_model, 2):
        common = {
            name: values
            for name, values in by_model[first].items()
            if len(values[0]) == len(by_model[second].get(name, [[]])[0])
        }
        for comparison in compare_by_task(common, by_model[second]):
            name, _, number = comparison.task.rpartition(" ")
            comparisons.append(
                {
                    "first": first,
                    "second": second,
                    "task": name,
                    "shots": int(number),
                    "metric": tasks[name].metric,
                    **_nan_to_none(comparison.difference._asdict()),
                    "p": comparison.p,
                    "p_holm": comparison.p_holm,
                }
            )
    return comparisons


def _nan_to_none(values: dict[str, float]) -> dict[str, float | None]:
    """JSON has no nan."""
    return {n: None if isinstance(x, float) and math.isnan(x) else x for n, x in values.items()}


def write_scalars(folder: Path, summary: dict[str, Any]) -> None:
    """Means to TensorBoard: score against shots, a curve for each model."""
    from torch.utils.tensorboard import SummaryWriter  # heavy

    for model in sorted({row["model"] for row in summary["summaries"]}):
        name = model.strip("/").replace("/", "_") or "model"
        with SummaryWriter(folder / "tensorboard" / name) as writer:
            for row in summary["summaries"]:
                if row["model"] == model:
                    writer.add_scalar(f"{row['task']}/{row['metric']}", row["mean"], row["shots"])


def category_means(summaries: list[dict], tasks: Mapping[str, Task]) -> list[dict]:
    """The mean of the official metric over the tasks of each category, for each model and number of
    shots; only of categories with several tasks that were all scored in one metric."""
    cells: dict[tuple[int, str, str], dict[str, list[float]]] = {}
    for row in summaries:
        category = tasks[row["task"]].category
        if row["official"] and category and row["mean"] is not None:
            by_model = cells.setdefault((row["shots"], category, row["metric"]), {})
            by_model.setdefault(row["model"], []).append(row["mean"])
    return [
        {
            "category": category,
            "shots": shots,
            "metric": metric,
            "model": model,
            "tasks": len(means),
            "mean": float(np.mean(means)),
        }
        for (shots, category, metric), by_model in cells.items()
        for model, means in by_model.items()
        if len(means) > 1
    ]


def report(
    summary: dict[str, Any],
    tasks: Mapping[str, Task],
    audits: Mapping[str, Audit | None],
    folder: Path,
) -> str:
    """What the terminal shows: a table for each task."""
    parts = []
    for name, task in tasks.items():
        parts.append(_table(summary["summaries"], name, task))
        if audit := audits[name]:
            parts.append(audit_table(audit))
    if summary["categories"]:
        parts.append(_category_table(summary["categories"]))
    parts += [f"left out: {message}" for message in summary["skipped"]]
    parts.append(
        f"{len(summary['scores'])} scores, {summary['trials_run']} of them new; in {folder}"
    )
    return "\n\n".join(parts)


def _table(summaries: list[dict], name: str, task: Task) -> str:
    shown = [task.metric]
    if SECOND_METRIC in metric_names(task.kind) and task.metric != SECOND_METRIC:
        shown.append(SECOND_METRIC)
    cells: dict[tuple[int, str], dict[str, dict]] = {}
    for row in summaries:
        if row["task"] == name:
            cells.setdefault((row["shots"], row["model"]), {})[row["metric"]] = row
    lines = [["shots", "model", *(f"{metric} (95 % interval)" for metric in shown)]]
    for (shots, model), by_metric in cells.items():
        line = ["all" if shots == FULL else str(shots), model]
        line += [_cell(by_metric[metric]) for metric in shown]
        official = by_metric[task.metric]
        if official["collapsed"]:
            line.append(f"{official['collapsed']} of {official['count']} collapsed to one answer")
        lines.append(line)
    return f"{task.name}: {task.kind}, scored on its test split\n{text_table(lines)}"


def _category_table(rows: list[dict]) -> str:
    lines = [["shots", "category", "tasks", "metric", "model", "mean"]]
    for row in rows:
        shots = "all" if row["shots"] == FULL else str(row["shots"])
        cells = [shots, row["category"], str(row["tasks"]), row["metric"], row["model"]]
        lines.append([*cells, f"{100 * row['mean']:.1f}"])
    return f"mean over the tasks of a category\n{text_table(lines)}"


def _cell(row: dict) -> str:
    """A mean with its interval: fractions as percentages with one decimal, as in the papers."""
    scale = 1 if row["metric"] == "mse" else 100
    mean = f"{row['mean'] * scale:.1f}"
    if row["low"] is None:
        return mean if row["count"] == 1 else f"{mean} (no interval: one replicate)"
    return f"{mean} ({row['low'] * scale:.1f} to {row['high'] * scale:.1f})"
