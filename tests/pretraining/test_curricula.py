"""Runs under other curricula than the papers': stopped and resumed, logged, summed up."""

import json
import re
import signal

import pytest
from helpers.paths import EXPERIMENTS
from helpers.runs import assert_same_run, interrupt_when_window_is_drawn, scalars

from cmgems.callbacks import CurriculumCallback
from cmgems.config.schema import Curriculum, Experiment, Train
from cmgems.errors import RunStopped, UserError
from cmgems.pretraining import pretrain
from cmgems.runs.experiment import load

PATH = EXPERIMENTS / "pretrain/cm_step.yaml"
CURRICULA = {
    "by sequence, with a ramp": [
        "curriculum.schedule=cosine",
        "curriculum.mix_by=sequence",
        "curriculum.strategies=[span,soft_pmi]",
        "curriculum.ramps.mask_ratio={schedule: linear, end: 0.3}",
    ],
    "shuffled steps of three": [
        "curriculum.schedule=steps",
        "curriculum.order=shuffle",
        "curriculum.strategies=[uniform,random_wide,inverse_pmi]",
        "curriculum.milestones=[0.3,0.7]",
    ],
    "plateau of three": [
        "curriculum.schedule=plateau",
        "curriculum.strategies=[random,genemask,shuffled_pmi]",
        "curriculum.plateau.rule=paper",
        "curriculum.plateau.threshold=1e9",
    ],
}


@pytest.fixture(scope="module", params=CURRICULA)
def whole(request, tiny, tmp_path_factory):
    """An uninterrupted run of 18 steps, its overrides, its results and its summary."""
    overrides = [*tiny, "train.max_steps=18", *CURRICULA[request.param]]
    folder = tmp_path_factory.mktemp("curricula") / "whole"
    return folder, overrides, pretrain(load(PATH, [*overrides, f"run.dir={folder}"]))


def test_stopped_in_the_middle_and_resumed_equals_not_stopped(whole, tmp_path, monkeypatch):
    folder, overrides, results = whole
    overrides = [*overrides, f"run.dir={tmp_path / 'run'}"]
    interrupt_when_window_is_drawn(monkeypatch, number=4 * 10 + 1, signal_number=signal.SIGINT)
    with pytest.raises(RunStopped):
        pretrain(load(PATH, overrides))
    resumed = pretrain(load(PATH, [*overrides, "run.resume=true"]))
    assert_same_run(folder, tmp_path / "run")
    for name in ("final", "masked_fraction", "switches", "reference"):
        assert resumed[name] == results[name], name


def test_logs_what_the_masks_select_and_what_is_known_of_hidden_bases(whole):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _, results = whole
    found = scalars(folder)
    validations = {0, 3, 6, 9, 12, 15, 18}
    for name in (
        "masks/masked_fraction",
        "masks/hidden_fraction",
        "masks/rank_masked",
        "masks/gc_hidden",
        "masks/perplexity_floor",
        "validation_random_wide/hidden_base_bits",
        "validation_random_wide/hidden_base_accuracy",
        "validation_reference/markov_bits",
    ):
        assert {step for step, n in found if n == name} == validations, name
    events = EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()["histograms"]
    assert {"masks/rank_of_masked", "masks/rank_of_others"} <= set(tags)
    untrained = results["initial"]["random_wide"]["hidden_base_bits"]
    assert untrained == pytest.approx(2.0, abs=0.1)  # an untrained model knows no base
    assert 1.2 < results["reference"]["markov_bits"] < results["reference"]["composition_bits"]
    assert results["reference"]["composition_bits"] == pytest.approx(2.0, abs=0.05)


def test_the_strategies_have_their_parts(whole):
    folder, overrides, results = whole
    masked_fractions = results["masked_fraction"]
    if "curriculum.schedule=plateau" in overrides:
        assert results["switches"] == [6, 12]  # a stage takes two validations to end
        progress = [float(scalars(folder)[step, "train/progress"]) for step in range(1, 19)]
        assert progress == [0.0] * 6 + [1.0] * 6 + [2.0] * 6
    if "curriculum.order=shuffle" in overrides:
        progress = [float(scalars(folder)[step, "train/progress"]) for step in range(1, 19)]
        assert sorted(progress) == [0.0] * 6 + [1.0] * 7 + [2.0] * 5
        assert progress != sorted(progress)
    if "curriculum.mix_by=sequence" in overrides:
        mask_ratio = [float(scalars(folder)[step, "train/mask_ratio"]) for step in (1, 18)]
        assert mask_ratio == [pytest.approx(0.15), pytest.approx(0.2925)]
        assert set(masked_fractions) == {"span", "soft_pmi"}
    assert all(0.05 < fraction < 0.4 for fraction in masked_fractions.values())


def test_the_summary_says_that_counting_knows_more(whole, tiny, capsys):
    folder, overrides, _ = whole
    pretrain(load(PATH, [*overrides, f"run.dir={folder}", "run.resume=true"]))
    out = capsys.readouterr().out
    # Eighteen steps: 2 bits per hidden base, which counting all training DNA is below.
    words = " ".join(out.split())
    assert re.search(r"Over all hidden bases the model is [^.]*above [^.]*Markov model", words)
    assert "gained over Markov" in out
    assert "of hidden bases (wide masks)" in out


@pytest.mark.parametrize(
    "schedule", ["constant", "linear", "cosine", "sqrt", "exponential", "steps", "plateau"]
)
def test_the_state_of_every_schedule_goes_through_a_checkpoint(schedule):
    """A callback that has loaded the state of another, as plain containers, plans the same."""
    names = ("random",) if schedule == "constant" else ("random", "genemask", "global_pmi")
    milestones = (0.2, 0.6) if schedule == "steps" else ()
    curriculum = Curriculum(schedule=schedule, strategies=names, milestones=milestones)
    experiment = Experiment(curriculum=curriculum, train=Train(max_steps=100))
    saved, resumed = (CurriculumCallback(experiment, 8.0) for _ in range(2))
    if schedule == "plateau":
        saved.switches, saved.losses = [30], [5.0, 4.5]
    resumed.load_state_dict(json.loads(json.dumps(saved.state_dict())))
    assert resumed.losses == saved.losses
    assert [resumed.plan(t) for t in range(100)] == [saved.plan(t) for t in range(100)]
    if schedule == "plateau":
        assert saved.plan(30).strategies == ("genemask",)
        assert saved.switched_at is None
    else:
        with pytest.raises(UserError, match="the checkpoint is of a"):
            resumed.load_state_dict({"schedule": "plateau", "losses": [], "switches": []})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["curriculum.strategies=[random]"], "found 1 names, schedule linear wants two or more"),
        (["curriculum.strategies=[random,random]"], "a name is listed twice"),
        (
            ["curriculum.schedule=steps"],
            "curriculum.milestones: found [], wanted 1 ascending numbers",
        ),
        (
            ["curriculum.milestones=[0.5]"],
            "curriculum.milestones: belongs to schedule steps, found linear",
        ),
        (
            ["curriculum.schedule=plateau", "curriculum.order=shuffle"],
            "a plateau cannot be shuffled before its switch is known",
        ),
        (
            ["curriculum.ramps.mask_ratio.schedule=linear"],
            "curriculum.ramps.mask_ratio.end: found 0.0, wanted 0.001 to 0.9",
        ),
        (["curriculum.ramps.temperature.end=1.0"], "found 1.0, but schedule is constant"),
        (
            ["curriculum.ramps.span_width={schedule: sqrt, end: 5}", "masking.center_rate=paper"],
            "but masking.center_rate is paper",
        ),
        (
            ["curriculum.milestones=[a]"],
            "curriculum.milestones: found ['a'], wanted a list of numbers",
        ),
    ],
)
def test_refuses_curricula_that_mean_nothing(overrides, message):
    with pytest.raises(UserError) as caught:
        load(PATH, overrides)
    assert message in str(caught.value)
