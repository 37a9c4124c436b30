"""The scores of an evaluation as means with intervals, comparisons, a table and TensorBoard."""

import math
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from cmgems.evaluation.jobs import Result
from cmgems.evaluation.trials import FULL
from cmgems.tasks.audit import Audit, audit_table
from cmgems.tasks.task import Task, metric_names
from cmgems.utils.intervals import ReplicateScores, compare_by_task, summarize
from cmgems.utils.text_table import text_table

BESIDE = "auroc"  # shown beside the official metric where there is one


def summaries(results: list[Result], chosen: Mapping[str, Task]) -> dict[str, list[dict]]:
    """`summaries`, a figure of a model on a task each, and `comparisons` of pairs of models."""
    return {
        "summaries": [
            {
                "model": model,
                "task": task,
                "shots": shots,
                "metric": metric,
                "official": metric == chosen[task].metric,
                "collapsed": sum(r.scores.collapsed for r in its),
                **_known(summarize(replicate_values(its, metric))._asdict()),
            }
            for (model, task, shots), its in group_by_cell(results).items()
            for metric in metric_names(chosen[task].kind)
        ],
        "comparisons": _comparisons(results, chosen),
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


def _comparisons(results: list[Result], chosen: Mapping[str, Task]) -> list[dict]:
    """Every pair of models by the official metric, corrected for the tasks and numbers of shots.

    Seeds of a replicate are averaged first: a baseline has none to pair them with.
    """
    cells = group_by_cell(results)
    by_model: dict[str, dict[str, ReplicateScores]] = {}
    for (model, task, shots), its in cells.items():
        values = replicate_values(its, chosen[task].metric)
        if len(values) > 1:
            values = [[float(np.mean(seeds))] for seeds in values]
        by_model.setdefault(model, {})[f"{task} {shots}"] = values
    found = []
    for first, second in combinations(by_model, 2):
        common = {
            name: values
            for name, values in by_model[first].items()
            if len(values[0]) == len(by_model[second].get(name, [[]])[0])
        }
        for one in compare_by_task(common, by_model[second]):
            task, _, shots = one.task.rpartition(" ")
            found.append(
                {
                    "first": first,
                    "second": second,
                    "task": task,
                    "shots": int(shots),
                    "metric": chosen[task].metric,
                    **_known(one.difference._asdict()),
                    "p": one.p,
                    "p_holm": one.p_holm,
                }
            )
    return found


def _known(figures: dict[str, float]) -> dict[str, float | None]:
    """JSON has no nan."""
    return {n: None if isinstance(x, float) and math.isnan(x) else x for n, x in figures.items()}


def write_scalars(folder: Path, found: dict[str, Any]) -> None:
    """Means to TensorBoard: score against shots, a curve for each model."""
    from torch.utils.tensorboard import SummaryWriter

    for model in sorted({one["model"] for one in found["summaries"]}):
        name = model.strip("/").replace("/", "_") or "model"
        with SummaryWriter(folder / "tensorboard" / name) as writer:
            for one in found["summaries"]:
                if one["model"] == model:
                    writer.add_scalar(f"{one['task']}/{one['metric']}", one["mean"], one["shots"])


def report(
    found: dict[str, Any],
    chosen: Mapping[str, Task],
    audits: Mapping[str, Audit | None],
    folder: Path,
) -> str:
    """What the terminal shows: a table for each task."""
    parts = []
    for name, one in chosen.items():
        parts.append(_table(found["summaries"], name, one))
        if audits[name]:
            parts.append(audit_table(audits[name]))
    parts += [f"left out: {text}" for text in found["skipped"]]
    parts.append(f"{len(found['scores'])} scores, {found['trials_run']} of them new; in {folder}")
    return "\n\n".join(parts)


def _table(summaries: list[dict], name: str, one: Task) -> str:
    beside = BESIDE if BESIDE in metric_names(one.kind) and one.metric != BESIDE else None
    cells: dict[tuple, dict[str, dict]] = {}
    for summary in summaries:
        if summary["task"] == name:
            cells.setdefault((summary["shots"], summary["model"]), {})[summary["metric"]] = summary
    header = ["shots", "model", f"{one.metric} (95 % interval)"]
    rows = [[*header, f"{beside} (95 % interval)"] if beside else header]
    for (shots, model), its in cells.items():
        row = ["all" if shots == FULL else str(shots), model, _cell(its[one.metric])]
        rows.append([*row, _cell(its[beside])] if beside else row)
        if collapsed := its[one.metric]["collapsed"]:
            rows[-1].append(f"{collapsed} of {its[one.metric]['count']} collapsed to one answer")
    return f"{one.name}: {one.kind}, scored on its test split\n{text_table(rows)}"


def _cell(row: dict) -> str:
    """Shares as percentages with one decimal, as the papers print them."""
    scale = 100 if row["metric"] not in ("mse",) else 1
    mean = f"{row['mean'] * scale:.1f}"
    if row["low"] is None:
        return mean if row["count"] == 1 else f"{mean} (no interval: one replicate)"
    return f"{mean} ({row['low'] * scale:.1f} to {row['high'] * scale:.1f})"
