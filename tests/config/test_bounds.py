"""Counts that nobody can mean are refused in one line, at once."""

from types import SimpleNamespace

import pytest
from helpers.paths import EXPERIMENTS

from cmgems.cli import main
from cmgems.errors import UserError
from cmgems.evaluation.config import load_evaluation
from cmgems.evaluation.trials import make_batches
from cmgems.runs.experiment import load
from cmgems.sweeps.config import read_sweep
from cmgems.sweeps.local import LocalExecutor
from cmgems.sweeps.plan import cross_axes

QUICKSTART = EXPERIMENTS / "finetune/quickstart.yaml"
SWEEP = EXPERIMENTS / "sweep/maskings.yaml"
LOADERS = {
    "pretrain": lambda override: load(EXPERIMENTS / "pretrain/random.yaml", [override]),
    "evaluate": lambda override: load_evaluation(QUICKSTART, [override]),
    "sweep": lambda override: read_sweep(SWEEP, [override]),
}


@pytest.mark.parametrize(
    ("command", "key"),
    [
        *(("pretrain", f"train.{key}") for key in ("max_steps", "devices", "nodes")),
        *(("pretrain", f"train.{key}_batch_size") for key in ("global", "micro")),
        *(("pretrain", f"model.{key}") for key in ("hidden_size", "num_heads")),
        *(("evaluate", key) for key in ("seeds", "few_shot.replicates", "compute.workers")),
        *(("evaluate", f"recipe.{key}") for key in ("epochs", "max_steps", "batch_size")),
        *(("sweep", key) for key in ("jobs", "search.trials")),
    ],
)
def test_a_count_beyond_all_reason(command, key):
    with pytest.raises(UserError, match=rf"{key}: found 1000000000000, wanted at most \d+"):
        LOADERS[command](f"{key}={10**12}")


@pytest.mark.parametrize("value", [".inf", ".nan", "1.5"])
def test_shots_are_whole(value):
    with pytest.raises(UserError, match="wanted different whole numbers"):
        load_evaluation(QUICKSTART, [f"few_shot.shots=[{value}]"])


def test_axes_whose_product_is_huge():
    names = ("seed", "train.max_steps", "optim.warmup_steps", "data.window_length", "pmi.min_count")
    axes = [f"axes.{name}={list(range(1, 101))}" for name in names]
    with pytest.raises(UserError, match=r"axes: found [0-9,]+ runs, wanted at most 10,000"):
        cross_axes(read_sweep(SWEEP, axes))


def test_trainings_are_counted_before_they_are_listed():
    overrides = ["seeds=1000", "few_shot.replicates=1000"]
    evaluation = load_evaluation(QUICKSTART, overrides)
    with pytest.raises(UserError, match="found 2,000,000 trainings, wanted at most 100,000"):
        make_batches(evaluation, [SimpleNamespace(name="a")], {"task": [10, 50]}, on_gpu=False)


def test_slots_are_not_listed():
    executor = LocalExecutor(10**12, [])
    assert executor.free_slots() == 10**12


@pytest.mark.parametrize("text", ["9" * 5000, "²", "-1", "1e3"])
def test_steps_of_a_branch(text, tmp_path, capsys):
    assert main(["branch", str(tmp_path), f"step={text}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "step: found" in line
    assert len(line) < 1100
