"""The first run that a newcomer makes learns something within its first minute."""

import json

import pytest
from helpers.paths import EXPERIMENTS
from helpers.runs import assert_same_run, interrupt_when_window_is_drawn

from cmgems.cli import main
from cmgems.errors import RunStopped
from cmgems.pretraining import pretrain
from cmgems.runs.experiment import load


def test_its_first_steps_are_below_composition(tmp_path, capsys):
    """The whole run ends below the Markov model of all its training DNA (docs/models.md); 25 of
    its steps get below base composition, the 95 % interval included."""
    overrides = [
        "train.max_steps=25",
        "validation.every_n_steps=25",
        "optim.warmup_steps=10",
        "curriculum.schedule=constant",
        "curriculum.strategies=[random_wide]",
        "curriculum.milestones=[]",
        "validation.windows=32",
        "validation.final_windows=64",
        "validation.judge_windows=8",
    ]
    experiment = str(EXPERIMENTS / "pretrain/quickstart.yaml")
    assert main(["pretrain", experiment, f"run.dir={tmp_path / 'run'}", *overrides]) == 0
    results = json.loads((tmp_path / "run/results.json").read_text())
    less = results["hidden_bases"]["strata"]["all"]["model_less"]["composition"]
    assert less["high"] < -0.01
    assert "the model is below composition" in capsys.readouterr().out.replace("\n", " ")


def test_is_cut_short_by_its_number_of_steps_alone():
    short = load("quickstart", ["train.max_steps=30"])
    assert short.optim.warmup(short.train.max_steps) == 2
    assert short.validation.every_n_steps == 250


def test_stopped_and_resumed_equals_not_stopped(tiny, tmp_path, monkeypatch):
    """With Muon and convolutions: momenta, rates and the step of the schedule go on."""
    overrides = [*tiny, "train.max_steps=6", "data.min_window_length=60"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    experiment = EXPERIMENTS / "pretrain/quickstart.yaml"
    pretrain(load(experiment, [*overrides, f"run.dir={whole}"]))
    with monkeypatch.context() as patch:
        interrupt_when_window_is_drawn(patch, number=4 * 4 + 1)
        with pytest.raises(RunStopped):
            pretrain(load(experiment, [*overrides, f"run.dir={stopped}"]))
    pretrain(load(experiment, [*overrides, f"run.dir={stopped}", "run.resume=true"]))
    assert_same_run(whole, stopped)
