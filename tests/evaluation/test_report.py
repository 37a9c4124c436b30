"""Means over the tasks of a category."""

import pytest

from cmgems.evaluation.report import category_means
from cmgems.tasks.lookup import find_task


def row(task, model, shots, mean, metric="mcc", official=True):
    return {
        "task": task,
        "model": model,
        "shots": shots,
        "metric": metric,
        "official": official,
        "mean": mean,
    }


def test_means_are_of_tasks_of_one_category_and_one_metric():
    names = ("gue/tf/0", "gue/tf/1", "sites/ctcf", "gue/virus/covid", "nt_revised/H2AFZ")
    tasks = {name: find_task(name) for name in names}
    rows = [
        row("gue/tf/0", "a", 10, 0.25),
        row("gue/tf/0", "a", 10, 0.75, "auroc", official=False),
        row("gue/tf/1", "a", 10, 0.75),
        row("gue/tf/0", "b", 10, 0.0),
        row("gue/tf/1", "b", 10, 0.5),
        row("gue/tf/0", "a", 1, 0.5),  # alone with its number of shots
        row("sites/ctcf", "a", 10, 0.9, "auroc"),
        row("gue/virus/covid", "a", 10, 0.1, "f1"),
        row("nt_revised/H2AFZ", "a", 10, 0.3),
    ]
    found = [tuple(each.values()) for each in category_means(rows, tasks)]
    assert found == [
        ("binding sites", 10, "mcc", "a", 2, pytest.approx(0.5)),
        ("binding sites", 10, "mcc", "b", 2, pytest.approx(0.25)),
    ]
