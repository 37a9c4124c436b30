"""Schedules against expected values; their controls; ramps."""

from collections import Counter

import pytest
from helpers.paths import EXPERIMENTS

from cmgems.config.schema import Curriculum, Masking, Ramp, Ramps
from cmgems.curriculum.schedule import (
    curriculum_step,
    max_token_fraction,
    plan_at,
    progress_curve,
    shuffled_steps,
    stage_position,
)
from cmgems.masking.types import StrategyParams
from cmgems.runs.experiment import load

FALLING = EXPERIMENTS / "pretrain/falling_ratio.yaml"
TWO, THREE = ("easy", "hard"), ("easy", "middle", "hard")
MASKING = Masking()


def positions(steps, max_steps, strategies=TWO, switches=(), seed=0, **curriculum):
    config = Curriculum(strategies=strategies, **curriculum)
    return [stage_position(config, step, max_steps, switches, seed) for step in steps]


def names(max_steps, strategies=TWO, seed=0, switches=(), **curriculum):
    config = Curriculum(strategies=strategies, **curriculum)
    plans = [plan_at(config, MASKING, t, max_steps, switches, seed) for t in range(max_steps)]
    assert all(len(plan.strategies) == 1 for plan in plans)
    return [plan.strategies[0] for plan in plans]


def test_linear_is_cm_step():
    """floor(100 t / T) / 100, and no division by zero for short runs."""
    steps = (0, 9, 10, 19, 500, 999)
    assert positions(steps, 1000, schedule="linear") == [0, 0, 0.01, 0.01, 0.5, 0.99]
    assert positions(range(7), 7, schedule="linear") == [0, 0.14, 0.28, 0.42, 0.57, 0.71, 0.85]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0, 0, 0, 0]),
        ("linear", [0, 0.25, 0.5, 0.75]),
        ("cosine", [0, 0.146447, 0.5, 0.853553]),
        ("sqrt", [0, 0.5, 0.707107, 0.866025]),
        ("exponential", [0, 0.021841, 0.090909, 0.309321]),
    ],
)
def test_shapes(schedule, expected):
    assert [progress_curve(schedule, t, 100) for t in (0, 25, 50, 75)] == pytest.approx(
        expected, abs=1e-6
    )


def test_shapes_scale_to_any_number_of_strategies():
    assert positions((0, 25, 50, 75), 100, THREE, schedule="linear") == [0, 0.5, 1.0, 1.5]


def test_steps():
    steps = positions((0, 39, 40, 79, 80, 99), 100, THREE, schedule="steps", milestones=(0.4, 0.8))
    assert steps == [0, 0, 1, 1, 2, 2]


def test_plateau_follows_its_switches():
    assert positions((0, 9, 10), 100, schedule="plateau") == [0, 0, 0]
    assert positions((9, 10, 99), 100, switches=[10], schedule="plateau") == [0, 1, 1]
    three = positions((5, 10, 40), 100, THREE, switches=[10, 40], schedule="plateau")
    assert three == [0, 1, 2]
    back = positions((9, 10), 100, switches=[10], schedule="plateau", order="reverse")
    assert back == [1, 0]


def test_reverse_runs_backwards():
    forward = names(200, schedule="cosine")
    assert names(200, schedule="cosine", order="reverse") == forward[::-1]


@pytest.mark.parametrize("schedule", ["linear", "sqrt", "steps"])
def test_shuffle_has_the_same_batches_in_another_order(schedule):
    starts = {"milestones": (0.3, 0.6)} if schedule == "steps" else {}
    forward = names(300, THREE, schedule=schedule, **starts)
    shuffled = names(300, THREE, schedule=schedule, order="shuffle", **starts)
    assert Counter(shuffled) == Counter(forward)
    assert shuffled != forward
    assert names(300, THREE, schedule=schedule, order="shuffle", seed=1, **starts) != shuffled
    # early and late thirds are alike
    hard = [name == "hard" for name in shuffled]
    assert abs(sum(hard[:150]) - sum(hard[150:])) < 40


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 100, 1000])
def test_permutation_is_one(count):
    assert sorted(shuffled_steps(count, seed=5).tolist()) == list(range(count))


def test_permutation_is_not_the_identity():
    moved = shuffled_steps(1000, seed=5).tolist()
    assert sum(abs(n - m) for n, m in enumerate(moved)) / 1000 == pytest.approx(333, abs=40)
    assert curriculum_step("forward", 3, 10, 0) == 3


def test_strategy_of_a_step_follows_the_stage_position():
    drawn = names(20_000, schedule="linear", seed=7)
    for tenth in range(10):
        part = drawn[tenth * 2000 : (tenth + 1) * 2000]
        assert part.count("hard") / 2000 == pytest.approx(0.05 + tenth / 10, abs=0.04)
    assert drawn == names(20_000, schedule="linear", seed=7)


def test_mixing_by_sequence_plans_both():
    config = Curriculum(strategies=THREE, schedule="linear", mix_by="sequence")
    plan = plan_at(config, MASKING, 75, 100, (), 0)
    assert plan.strategies == ("middle", "hard")
    assert plan.second_probability == pytest.approx(0.5)
    assert plan_at(config, MASKING, 0, 100, (), 0).strategies == ("easy",)


def params(step, ramps, switches=(), **curriculum):
    config = Curriculum(strategies=TWO, ramps=ramps, **curriculum)
    return plan_at(config, MASKING, step, 100, switches, 0).params


def test_without_ramps_the_parameters_stay():
    assert params(99, Ramps(), schedule="linear") == StrategyParams(0.15, 3.8, 0.1)


def test_ramps():
    """Twenty levels; the temperature by its logarithm, the others in proportion."""
    ramps = Ramps(
        mask_ratio=Ramp("linear", 0.35),
        span_width=Ramp("cosine", 7.8),
        temperature=Ramp("linear", 0.001),
    )
    half = params(50, ramps, schedule="linear")
    assert half[:3] == pytest.approx((0.25, 5.8, 0.01))
    assert params(0, ramps, schedule="linear")[:3] == pytest.approx((0.15, 3.8, 0.1))
    levels = {params(t, ramps, schedule="linear").mask_ratio for t in range(100)}
    assert len(levels) == 21


def test_a_ramp_can_follow_the_curriculum():
    ramps = Ramps(temperature=Ramp("curriculum", 1.0))
    at = [params(t, ramps, switches=[30], schedule="plateau").temperature for t in (29, 30)]
    assert at == [pytest.approx(0.1), pytest.approx(1.0)]


def test_a_falling_mask_ratio_has_room_for_its_start():
    """From 0.45 to 0.15 in the 20 levels of a ramp; batches are shaped for 0.45 throughout."""
    experiment = load(FALLING)
    curriculum, masking, steps = experiment.curriculum, experiment.masking, 1000
    plans = [plan_at(curriculum, masking, t, steps, (), 0) for t in range(steps)]
    ratios = [plan.params.mask_ratio for plan in plans]
    assert (ratios[0], ratios[-1]) == (0.45, pytest.approx(0.15))
    assert ratios == sorted(ratios, reverse=True)
    assert len(set(ratios)) == 21
    fraction = max_token_fraction(curriculum, masking, lambda name, params: params.mask_ratio)
    assert fraction == 0.45
