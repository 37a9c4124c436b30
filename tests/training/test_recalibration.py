"""Recalibration by five numbers, against scipy's minimizer and on predictions that are known."""

import numpy as np
import pytest
from scipy.optimize import minimize

from cmgems.training.mixture import FOLDS
from cmgems.training.recalibration import recalibrate

BASES = 4000


@pytest.fixture(scope="module")
def miscalibrated():
    """Distributions, their bases, and the distributions that the bases were drawn from."""
    generator = np.random.default_rng(0)
    score = generator.normal(0, 1, (BASES, 4))
    given = np.exp(score)
    true = np.exp(0.5 * score + [0.4, 0.1, -0.2, -0.3])
    given, true = (x / x.sum(1, keepdims=True) for x in (given, true))
    base = (true.cumsum(1) > generator.random((BASES, 1))).argmax(1)
    return given, base, true, np.repeat(np.arange(BASES // 20), 20)


def test_equals_scipys_minimum_fold_by_fold(miscalibrated):
    given, base, _, window = miscalibrated
    found = recalibrate(given, base, window)

    def bits(numbers, which):
        score = numbers[0] * np.log(given[which]) + numbers[1:]
        score -= np.log(np.exp(score).sum(1, keepdims=True))
        return -score[np.arange(which.sum()), base[which]] / np.log(2)

    for fold in range(FOLDS):
        held_out = window % FOLDS == fold
        best = minimize(lambda x, rest=~held_out: bits(x, rest).sum(), [1.0, 0, 0, 0, 0])
        assert found.bits_H[held_out] == pytest.approx(bits(best.x, held_out), abs=1e-3)


def test_finds_the_numbers_that_were_changed(miscalibrated):
    given, base, true, window = miscalibrated
    found = recalibrate(given, base, window)
    assert found.inverse_temperature == pytest.approx(0.5, abs=0.05)
    assert found.bias_4 == pytest.approx([0.4, 0.1, -0.2, -0.3], abs=0.1)
    own = np.arange(BASES), base
    assert found.bits_H.mean() == pytest.approx(-np.log2(true[own]).mean(), abs=0.003)
    assert found.bits_H.mean() < -np.log2(given[own]).mean() - 0.05


def test_a_model_that_is_right_gains_nothing(miscalibrated):
    _, base, true, window = miscalibrated
    found = recalibrate(true, base, window)
    plain = -np.log2(true[np.arange(BASES), base])
    assert (found.bits_H - plain).mean() == pytest.approx(0, abs=0.002)
