"""Schedules against expected values; the plateau on curves."""

import math

import pytest

from cmgems.config import Curriculum, Plateau
from cmgems.masking.schedule import (
    chosen_strategy,
    hard_probability,
    is_plateau,
    linear,
    smoothed,
)

UNIGRAM = 8.0


def switch(losses, **plateau):
    """Number of validations after which the curriculum switches, or None."""
    for count in range(1, len(losses) + 1):
        if is_plateau(losses[:count], Plateau(**plateau), UNIGRAM):
            return count
    return None


def test_linear_is_cm_step():
    """floor(100 t / T) / 100, and no division by zero for short runs."""
    assert [linear(step, 1000) for step in (0, 9, 10, 19, 500, 999)] == [
        0,
        0,
        0.01,
        0.01,
        0.5,
        0.99,
    ]
    assert [linear(step, 7) for step in range(7)] == [0, 0.14, 0.28, 0.42, 0.57, 0.71, 0.85]


def test_hard_probability_by_schedule():
    constant, step, gems = (Curriculum(schedule=s) for s in ("constant", "linear", "plateau"))
    assert hard_probability(constant, 50, 100, None) == 0
    assert hard_probability(step, 50, 100, None) == 0.5
    assert [hard_probability(gems, t, 100, s) for t, s in [(9, None), (9, 10), (10, 10)]] == [
        0,
        0,
        1,
    ]


def test_strategy_of_a_step_follows_the_probability():
    names = ("easy", "hard")
    drawn = [chosen_strategy(names, 0.3, 7, step) for step in range(20_000)]
    assert drawn.count("hard") / len(drawn) == pytest.approx(0.3, abs=0.01)
    assert drawn[:200] == [chosen_strategy(names, 0.3, 7, step) for step in range(200)]
    assert {chosen_strategy(names, 0.0, 7, step) for step in range(100)} == {"easy"}
    assert {chosen_strategy(names, 1.0, 7, step) for step in range(100)} == {"hard"}


def test_paper_rule_is_a_drop_of_the_perplexity_below_the_threshold():
    losses = [math.log(p) for p in (400, 90, 40, 20, 19.5, 10)]
    assert switch(losses, rule="paper", threshold=1.0) == 5
    assert switch(losses, rule="paper", threshold=0.1) is None
    assert switch(losses, rule="paper", threshold=25.0) == 4
    assert switch([math.log(4000), math.log(4001)], rule="paper", threshold=1.0) == 2


def test_relative_rule_waits_until_the_unigram_entropy_is_left():
    curve = [8.3, 8.02, 8.01, 8.0, 7.99, 6.0, 5.0, 4.5, 4.45]
    assert switch(curve, threshold=0.02) == 9
    assert switch([8.0] * 20, threshold=0.02) is None


def test_patience_wants_flat_validations_in_a_row():
    curve = [6.0, 5.0, 4.98, 4.5, 4.49, 4.48, 4.47]
    assert switch(curve, threshold=0.02, patience=1) == 3
    assert switch(curve, threshold=0.02, patience=2) == 6


def test_smoothing():
    assert smoothed([4.0, 2.0, 2.0], 0.5) == [4.0, 3.0, 2.5]
    assert smoothed([4.0, 2.0], 0.0) == [4.0, 2.0]
    bumpy = [6.0, 5.0, 4.5, 4.6, 4.0, 3.6]
    assert switch(bumpy, threshold=0.02) == 4
    assert switch(bumpy, threshold=0.02, smoothing=0.8) is None
