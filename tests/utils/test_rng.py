"""Counter-based random numbers: uniform, independent, pure."""

import numpy as np
import pytest
import torch

from cmgems.utils.rng import (
    derive_key,
    generator,
    random_bits,
    sequence_keys,
    uniform,
    uniform_tensor,
)

POSITIONS = torch.arange(512, dtype=torch.int32)


@pytest.fixture(scope="module")
def keys():
    return torch.from_numpy(sequence_keys(derive_key(0, "masks"), np.arange(4000)))[:, None]


def test_uniform_in_distribution(keys):
    """Chi-square over 1000 bins, 999 degrees of freedom, p = 0.001."""
    values = uniform_tensor(keys, POSITIONS, 0)
    assert values.min() >= 0
    assert values.max() < 1
    counts = torch.bincount((values * 1000).long().flatten(), minlength=1000).double()
    expected = values.numel() / 1000
    assert ((counts - expected) ** 2 / expected).sum() < 1143


def test_uncorrelated(keys):
    values = uniform_tensor(keys, POSITIONS, 0).double()
    other = uniform_tensor(keys, POSITIONS, 1).double()
    for a, b in [
        (values[:-1], values[1:]),
        (values[:, :-1], values[:, 1:]),
        (values, other),
    ]:
        assert abs(np.corrcoef(a.flatten(), b.flatten())[0, 1]) < 4 / a.numel() ** 0.5


def test_number_of_centres_is_binomial(keys):
    centres = (uniform_tensor(keys, POSITIONS, 0) < 0.025).sum(1).double()
    assert centres.mean() == pytest.approx(512 * 0.025, abs=0.25)
    assert centres.var() == pytest.approx(512 * 0.025 * 0.975, rel=0.1)


def test_pure(keys):
    """Any part, in any order and shape, is the same as in the whole."""
    whole = uniform_tensor(keys, POSITIONS, 2)
    assert torch.equal(uniform_tensor(keys[7], POSITIONS[100:200], 2), whole[7, 100:200])
    assert torch.equal(uniform_tensor(keys.flip(0), POSITIONS, 2), whole.flip(0))


def test_values_are_fixed():
    """A change of the generator would silently change every seeded run."""
    assert derive_key(0, "masks") == 3704310372229892152
    keys = torch.from_numpy(sequence_keys(derive_key(0, "masks"), np.arange(2)))
    assert random_bits(keys[0], POSITIONS[:4], 0, bits=12).tolist() == [1254, 3550, 111, 721]
    assert uniform(derive_key(0, "strategy"), 5) == pytest.approx(0.6614537816397736, abs=1e-15)


def test_random_bits_cover_their_range(keys):
    values = random_bits(keys, POSITIONS, 3, bits=12)
    assert values.min() == 0
    assert values.max() == 4095


def test_host_uniform():
    key = derive_key(1, "strategy")
    values = np.array([uniform(key, step) for step in range(20_000)])
    assert values.mean() == pytest.approx(0.5, abs=0.01)
    assert np.histogram(values, 20, (0, 1))[0].min() > 880
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03


def test_keys_differ():
    keys = {derive_key(seed, purpose) for seed in range(50) for purpose in ("masks", "windows")}
    assert len(keys) == 100


def test_a_generator_begins_anew_for_each_seed_and_purpose():
    first = generator(0, "windows").random(8)
    assert (generator(0, "windows").random(8) == first).all()
    assert (generator(1, "windows").random(8) != first).all()
    assert (generator(0, "masks").random(8) != first).all()
