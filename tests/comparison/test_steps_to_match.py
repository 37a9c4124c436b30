"""Steps to match: exact on curves whose crossing is known, covered in simulated sweeps."""

import numpy as np
import pytest

from cmgems.comparison.steps_to_match import estimate_steps_to_match, first_crossing

STEPS = np.arange(0, 1001, 50)


def falling(rate, start=3.0, floor=1.0):
    return floor + (start - floor) * np.exp(-STEPS / rate)


def test_the_crossing_is_linear_between_validations():
    steps = np.array([0, 100, 200])
    curves = np.array([[4.0, 2.0, 1.0], [4.0, 3.0, 2.5], [1.0, 1.0, 1.0], [4.0, 2.0, 2.0]])
    crossings = first_crossing(steps, curves, np.array([1.5, 1.5, 1.5, 2.0]))
    assert crossings == pytest.approx([150.0, np.inf, 0.0, 100.0])


def test_a_curve_that_rises_again_has_been_there():
    crossings = first_crossing(np.array([0, 10, 20]), np.array([[3.0, 1.0, 2.0]]), np.array([1.5]))
    assert crossings == pytest.approx([7.5])


def test_twice_as_fast_matches_at_half_the_steps():
    rng = np.random.default_rng(0)
    noise = 1e-6 * rng.standard_normal((3, 1))
    match = estimate_steps_to_match(
        STEPS, falling(150) + noise, falling(300)[-1] + noise[:, 0], True, rng
    )
    assert match.step == pytest.approx(500, abs=2)
    assert match.low == pytest.approx(500, abs=2)
    assert match.high == pytest.approx(500, abs=2)
    assert match.reached_fraction == 1.0


def test_higher_can_be_better():
    rng = np.random.default_rng(0)
    noise = 1e-6 * rng.standard_normal((3, 1))
    curves, target = -falling(150) + noise, -falling(300)[-1] + noise[:, 0]
    match = estimate_steps_to_match(STEPS, curves, target, True, rng, lower_is_better=False)
    assert match.step == pytest.approx(500, abs=2)


def test_a_worse_model_does_not_reach_it():
    rng = np.random.default_rng(0)
    noise = 1e-3 * rng.standard_normal((3, 1))
    match = estimate_steps_to_match(
        STEPS, falling(300, floor=1.5) + noise, np.full(3, 1.2), False, rng
    )
    assert (match.step, match.low, match.high, match.reached_fraction) == (
        np.inf,
        np.inf,
        np.inf,
        0.0,
    )


def test_one_seed_has_a_step_but_no_interval():
    rng = np.random.default_rng(0)
    match = estimate_steps_to_match(STEPS, falling(150)[None], falling(300)[-1:], True, rng)
    assert match.step == pytest.approx(500, abs=2)
    assert np.isnan([match.low, match.high, match.reached_fraction]).all()


@pytest.mark.parametrize("paired", [True, False])
def test_the_interval_covers_the_true_step(paired, monkeypatch):
    """Three seeds, each with an offset of its curve; where paired, of both curves together."""
    monkeypatch.setattr("cmgems.comparison.steps_to_match.RESAMPLES", 400)
    rng = np.random.default_rng(1)
    truth = first_crossing(STEPS, falling(150)[None], falling(300)[-1:])[0]
    worlds, hits, widths = 600, 0, []
    for _ in range(worlds):
        own, shared = 0.01 * rng.standard_normal((3, 1)), 0.05 * rng.standard_normal((3, 1))
        ours = falling(150) + own + (shared if paired else 0)
        theirs = falling(300)[-1] + 0.01 * rng.standard_normal(3) + (shared[:, 0] if paired else 0)
        match = estimate_steps_to_match(STEPS, ours, theirs, paired, rng)
        hits += match.low <= truth <= match.high
        widths.append(match.high - match.low)
    # Where the two vary on their own, the interval is too wide rather than too narrow.
    low, high = (0.93, 0.97) if paired else (0.93, 1.0)
    assert low < hits / worlds < high
    assert np.median(widths) > 0


def test_no_difference_is_not_reported_as_steps_saved():
    """Two maskings alike: at best the run's last steps, and the interval says `not reached` too."""
    rng = np.random.default_rng(2)
    claims = 0
    for _ in range(200):
        ours, theirs = (falling(400) + 0.02 * rng.standard_normal((3, 1)) for _ in range(2))
        match = estimate_steps_to_match(STEPS, ours, theirs[:, -1], True, rng)
        claims += match.high < STEPS[-1]
    assert claims / 200 < 0.06
