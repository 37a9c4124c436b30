"""Branches: they go on as their parent would have, with the rate falling and masks of their own."""

import json

import pytest
from helpers.paths import EXPERIMENTS
from helpers.runs import assert_same_weights, scalars

from cmgems.cli import main
from cmgems.comparison.records import read_runs
from cmgems.errors import UserError
from cmgems.pretraining import pretrain
from cmgems.runs.experiment import load
from cmgems.runs.step_rules import steps_to_keep
from cmgems.sweeps.branches import BranchPoint, begin_branch, plan_branch

RANDOM = EXPERIMENTS / "pretrain/random.yaml"
WSD = ["optim.schedule=wsd", "train.keep_checkpoints_at=[0.5,1]", "train.max_steps=12"]


@pytest.fixture(scope="module")
def parent(tiny, tmp_path_factory):
    """A run of 12 steps at a constant rate, with checkpoints of steps 6 and 12."""
    folder = tmp_path_factory.mktemp("runs") / "parent"
    pretrain(load(RANDOM, [*tiny, *WSD, f"run.dir={folder}"]))
    return folder


def branch(parent, folder, step, *overrides, masks="", decay=3):
    planned = plan_branch(parent, BranchPoint(step, decay, masks), folder, overrides)
    begin_branch(planned)
    results = pretrain(load(planned.folder / "config.yaml", ["run.resume=true"]))
    return planned.folder, results


@pytest.mark.parametrize("step", [6, 12])
def test_goes_on_as_one_run_with_a_decay_bit_for_bit(step, parent, tiny, tmp_path):
    """From the middle of the parent, and from where it has ended; to between two validations."""
    whole = tmp_path / "whole"
    schedule = ["optim.schedule=wsd", "optim.decay_steps=4", f"train.max_steps={step + 4}"]
    pretrain(load(RANDOM, [*tiny, *schedule, f"run.dir={whole}"]))
    branched, results = branch(parent, tmp_path, step, decay=4)
    found, expected = scalars(branched), scalars(whole)
    assert found == expected
    assert_same_weights(branched, whole)
    rates = [float(found[n, "train/learning_rate"]) for n in range(step + 1, step + 5)]
    assert rates == pytest.approx([2.25e-3, 1.5e-3, 0.75e-3, 0])
    assert results["branch"]["step"] == step
    assert results["branch"]["run"] == str(parent)


def test_common_masks_and_another_rate(parent, tmp_path):
    folder, results = branch(
        parent,
        tmp_path,
        6,
        "optim.learning_rate=0.001",
        "pmi.min_count=50",  # other ranks than the parent's
        masks="random_wide",
        decay=6,
    )
    experiment = load(folder / "config.yaml")
    assert experiment.curriculum.strategies == ("random_wide",)
    assert set(results["masked_fraction"]) == {"random_wide"}  # of the branch alone
    found = scalars(folder)
    assert float(found[7, "train/learning_rate"]) == pytest.approx(0.001 * 5 / 6)
    assert (6, "train/fraction_by_random") in found  # the parent's log is continued
    assert (7, "train/fraction_by_random") not in found
    assert (folder / "parent.yaml").read_text() == (parent / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("step", "overrides", "message"),
    [
        (5, [], r"found 5, but .* has checkpoints of steps .*12 "),
        (6, ["optim.beta1=0.5"], r"optim.beta1: a branch keeps what .* has, 0.9; found 0.5"),
        (6, ["seed=1"], r"seed: a branch keeps"),
        (6, ["train.max_steps=99"], "a branch sets this key itself"),
        (
            6,
            ["curriculum.schedule=linear", "curriculum.strategies=[random,genemask]"],
            "found linear, which follows train.max_steps",
        ),
    ],
)
def test_is_refused_where_it_could_not_go_on(step, overrides, message, parent, tmp_path):
    with pytest.raises(UserError, match=message):
        plan_branch(parent, BranchPoint(step, 3, ""), tmp_path, overrides)


def test_a_branch_does_not_begin_anew_without_a_word(parent, tmp_path):
    planned = plan_branch(parent, BranchPoint(6, 3, ""), tmp_path)
    with pytest.raises(UserError, match=r"branch.run: .* is begun by cmgems branch"):
        pretrain(planned.experiment)


def test_checkpoints_are_kept_at_validations_alone(tiny):
    with pytest.raises(UserError, match=r"keep_checkpoints_at: found \[0.25\].*every_n_steps = 3"):
        load(RANDOM, [*tiny, "train.max_steps=15", "train.keep_checkpoints_at=[0.25]"])
    kept = load(RANDOM, [*tiny, "train.max_steps=16", "train.keep_checkpoints_at=[0.375,1]"])
    assert steps_to_keep(kept) == [6, 16]  # the end is validated too


def test_the_command_runs_several_and_not_again(parent, tmp_path, capsys):
    words = [str(parent), "step=kept", "decay=3", f"dir={tmp_path}", "masks=random_wide"]
    assert main(["branch", *words]) == 0
    assert "2 of 2 runs are finished" in capsys.readouterr().out
    before = json.loads((tmp_path / "parent-step12/results.json").read_text())
    assert main(["branch", *words]) == 0
    assert json.loads((tmp_path / "parent-step12/results.json").read_text()) == before
    (group,) = read_runs([tmp_path]).groups
    (run,) = group.runs
    assert [run.experiment.train.max_steps, *(r.experiment.branch.step for r in run.shorter)] == [
        15,
        6,
    ]
