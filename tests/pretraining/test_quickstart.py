"""The first run that a newcomer makes learns something within its first minute."""

import json

from helpers.paths import EXPERIMENTS

from cmgems.cli import main


def test_a_tenth_of_the_quickstart_is_below_composition(tmp_path, capsys):
    """The whole run ends below the Markov model of all its training DNA (docs/models.md); the first
    100 of its steps get below base composition, the 95 % interval included."""
    overrides = [
        "train.max_steps=100",
        "optim.warmup_steps=10",
        "curriculum.schedule=constant",
        "curriculum.strategies=[random_wide]",
        "curriculum.milestones=[]",
        "validation.windows=32",
        "validation.final_windows=128",
    ]
    experiment = str(EXPERIMENTS / "pretrain/quickstart.yaml")
    assert main(["pretrain", experiment, f"run.dir={tmp_path / 'run'}", *overrides]) == 0
    results = json.loads((tmp_path / "run/results.json").read_text())
    less = results["hidden_bases"]["strata"]["all"]["model_less"]["composition"]
    assert less["high"] < -0.01
    assert "the model is below composition" in capsys.readouterr().out.replace("\n", " ")
