"""Mixes of two models: on distributions of which the best mix is known."""

import numpy as np
import pytest

from cmgems.training.mixture import fit_weights, gain_over

BASES = 40_000


def softmax(scores):
    exponents = np.exp(scores - scores.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


def draw(chances, generator):
    return (chances.cumsum(1) > generator.random((len(chances), 1))).argmax(1)


def entropy(chances):
    return float(-(chances * np.log2(chances)).sum(1).mean())


@pytest.fixture(scope="module")
def experts():
    """Two experts, each with half of the evidence, and bases drawn from their product."""
    generator = np.random.default_rng(0)
    first, second = generator.normal(0, 1, (2, BASES, 4))
    truth = draw(softmax(first + second), generator)
    return first, second, truth, np.repeat(np.arange(BASES // 40), 40)


def test_the_weights_of_a_product_of_experts_are_found(experts):
    first, second, truth, _ = experts
    logs = np.log(np.stack([softmax(2 * first), softmax(second / 4)], axis=2))
    assert fit_weights(logs, truth) == pytest.approx([0.5, 4.0], rel=0.04)


def test_gains_what_the_other_model_lacks(experts):
    """The entropy without the first expert, less the entropy with both."""
    first, second, truth, window = experts
    gain = gain_over(softmax(first), softmax(second), truth, window)
    assert (gain.model_weight, gain.other_weight) == pytest.approx((1, 1), rel=0.04)
    lost = -np.log2(softmax(first + second)[np.arange(BASES), truth])
    best = min(
        -np.log2(softmax(second * b)[np.arange(BASES), truth]).mean() for b in np.linspace(0.3, 1.2)
    )
    assert gain.bits_H.mean() == pytest.approx(best - lost.mean(), abs=0.002)
    assert gain.bits_H.mean() > 0.2


def test_a_model_that_knows_nothing_gains_nothing(experts):
    """Not even where the other one is overconfident, which any mix would mend."""
    _, second, truth, window = experts
    noise = softmax(np.random.default_rng(1).normal(0, 1, (BASES, 4)))
    for model in (noise, np.full((BASES, 4), 0.25), softmax(3 * second)):
        gain = gain_over(model, softmax(3 * second), truth, window)
        assert gain.bits_H.mean() == pytest.approx(0, abs=1e-4)


def test_bases_are_measured_with_weights_of_other_windows(experts):
    """A fold whose truth is turned around changes the weights of all other folds, not its own."""
    first, second, truth, window = experts
    turned = np.where(window % 5 == 0, (truth + 1) % 4, truth)
    few = slice(0, 4000)
    plain, other = (
        gain_over(softmax(first)[few], softmax(second)[few], t[few], window[few])
        for t in (truth, turned)
    )
    own = window[few] % 5 == 0
    logs = np.log(np.stack([softmax(first), softmax(second)], axis=2))[few]
    mix = fit_weights(logs[~own], truth[few][~own])
    alone = fit_weights(logs[~own][:, :, 1:], truth[few][~own])

    def bits(models, weights):
        return -np.log2(softmax(models @ weights)[np.arange(4000), turned[few]])

    expected = bits(logs[:, :, 1:], alone) - bits(logs, mix)
    assert other.bits_H[own] == pytest.approx(expected[own])
    assert not np.allclose(plain.bits_H[~own], other.bits_H[~own])


def test_no_probability_is_taken_for_impossible():
    model = np.tile([1.0, 0.0, 0.0, 0.0], (50, 1))
    truth, window = np.arange(50) % 4, np.arange(50)
    gain = gain_over(model, np.full((50, 4), 0.25), truth, window)
    assert np.isfinite(gain.bits_H).all()
