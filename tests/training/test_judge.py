"""The judge of finished runs: its figures against plain loops over bases and windows."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from cmgems.training.copies import STRATA
from cmgems.training.final_references import FinalReferences
from cmgems.training.judge import (
    BasePredictions,
    WindowSums,
    judge_masks,
    judges_scalars,
    named_scalars,
    reference_bits,
)
from cmgems.training.judge import judge as judge_with_sums
from cmgems.training.recalibration import recalibrate

WINDOWS, PER_WINDOW = 200, 30


def judge(predictions, references):
    return judge_with_sums(predictions, references, WindowSums("random_wide", WINDOWS))


def distributions(scores):
    exponents = np.exp(scores)
    return exponents / exponents.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def made_up():
    """References that know something of each base, and a model that knows something else."""
    generator = np.random.default_rng(0)
    bases = WINDOWS * PER_WINDOW
    known, other = generator.normal(0, 1, (2, bases, 4))
    both = distributions(known + other)
    true_H = (both.cumsum(1) > generator.random((bases, 1))).argmax(1)
    markov_H4 = distributions(known).astype(np.float32)
    own = np.arange(bases), true_H
    references = FinalReferences(
        true_H=true_H,
        window_H=np.repeat(np.arange(WINDOWS), PER_WINDOW),
        copies_H=generator.choice([-1, 0, 0, 1, 2, 5, 10, 99], bases),
        bits_H={
            "composition": np.full(bases, 2.0),
            "markov_seen": -np.log2(distributions(known / 2)[own]),
            "markov": -np.log2(markov_H4[own]).astype(float),
        },
        markov_H4=markov_H4,
        markov_order=11,
        markov_seen_order=8,
        seen_bases=12345,
        strata_H={"soft_masked": np.arange(bases) % 3 == 0},
    )
    probability_H4 = distributions(other)
    return BasePredictions(-np.log2(probability_H4[own]), probability_H4), references


def by_hand(values, window):
    """Mean per base and its interval: windows are the units."""
    windows = sorted(set(window.tolist()))
    sums = [sum(values[window == number]) for number in windows]
    counts = [int((window == number).sum()) for number in windows]
    mean = sum(sums) / sum(counts)
    squares = sum((s - mean * n) ** 2 for s, n in zip(sums, counts, strict=True))
    error = math.sqrt(squares * len(windows) / (len(windows) - 1)) / sum(counts)
    half = stats.t.ppf(0.975, len(windows) - 1) * error
    return {"mean": mean, "low": mean - half, "high": mean + half}


def test_each_stratum_has_its_bases_bits_and_intervals(made_up):
    predictions, references = made_up
    judged = judge(predictions, references)
    assert list(judged["strata"]) == [*STRATA, "soft_masked"]
    assert judged["windows"] == WINDOWS
    for name, found in judged["strata"].items():
        low, high = STRATA.get(name, (-1, None))
        held = np.array([low <= c and (high is None or c <= high) for c in references.copies_H])
        held &= references.strata_H.get(name, True)
        assert found["bases"] == held.sum()
        assert found["fraction"] == pytest.approx(held.mean())
        window = references.window_H[held]
        for kind, bits in {"model": predictions.bits_H, **references.bits_H}.items():
            assert found["bits"][kind] == pytest.approx(by_hand(bits[held], window)), kind
        for kind, bits in references.bits_H.items():
            difference = (predictions.bits_H - bits)[held]
            assert found["model_less"][kind] == pytest.approx(by_hand(difference, window)), kind


def test_the_gain_is_what_the_model_knows_beside_the_markov_model(made_up):
    predictions, references = made_up
    gain = judge(predictions, references)["strata"]["all"]["gained_over_markov"]
    assert gain["low"] > 0.2
    assert (gain["model_weight"], gain["markov_weight"]) == pytest.approx((1, 1), abs=0.1)
    turned = predictions.probability_H4[::-1]  # of other bases: knows nothing
    nothing = judge(BasePredictions(predictions.bits_H, turned), references)
    gain = nothing["strata"]["all"]["gained_over_markov"]
    assert gain["mean"] == pytest.approx(0, abs=0.002)
    assert gain["low"] < 0.001


def test_tokens_without_distributions_of_bases_have_no_gain(made_up):
    judged = judge(BasePredictions(made_up[0].bits_H, None), made_up[1])
    assert all("gained_over_markov" not in found for found in judged["strata"].values())
    assert not any("gained" in name for name in named_scalars(judged))


def test_a_stratum_without_bases_is_left_out_and_one_window_has_no_interval(made_up):
    predictions, references = made_up
    first = slice(0, PER_WINDOW)
    few = references._replace(
        true_H=references.true_H[first],
        window_H=references.window_H[first],
        copies_H=np.zeros(PER_WINDOW, int),
        bits_H={name: bits[first] for name, bits in references.bits_H.items()},
        markov_H4=references.markov_H4[first],
        strata_H={"soft_masked": np.zeros(PER_WINDOW, bool)},
    )
    judged = judge(BasePredictions(*(part[first] for part in predictions)), few)
    assert list(judged["strata"]) == ["all", "unique"]
    assert judged["strata"]["all"]["bits"]["model"]["low"] is None
    assert "NaN" not in json.dumps(judged)


def test_a_model_under_masks_is_judged_as_it_is_and_recalibrated(made_up):
    """Of a model that is too sure of itself, what it knows; by window, what compare pairs."""
    predictions, references = made_up
    own = np.arange(len(references.true_H)), references.true_H
    too_sure = predictions.probability_H4**3
    too_sure /= too_sure.sum(1, keepdims=True)
    sums = WindowSums("isolated", WINDOWS + 2)
    judged = judge_masks(BasePredictions(-np.log2(too_sure[own]), too_sure), references, sums)
    assert list(judged["strata"]) == ["all", "unique"]
    for name, found in judged["strata"].items():
        held = references.copies_H == 0 if name == "unique" else np.full(len(own[0]), True)
        window = references.window_H[held]
        bits = {"model": -np.log2(too_sure[own]), **references.bits_H}
        for kind, values in bits.items():
            assert found["bits"][kind] == pytest.approx(by_hand(values[held], window)), kind
        # As if it had never been made too sure.
        wanted = recalibrate(predictions.probability_H4[held], references.true_H[held], window)
        mean = found["bits"]["recalibrated"]["mean"]
        assert mean == pytest.approx(wanted.bits_H.mean(), abs=1e-3)
        assert mean < bits["model"][held].mean() - 0.3
        assert found["inverse_temperature"] == pytest.approx(
            wanted.inverse_temperature / 3, rel=0.01
        )
        by_window = [bits["model"][held][window == number].sum() for number in range(WINDOWS + 2)]
        assert sums.arrays[f"isolated/{name}/model"] == pytest.approx(np.array(by_window))
        counts = [(window == number).sum() for number in range(WINDOWS + 2)]
        assert sums.arrays[f"isolated/{name}/bases"].tolist() == counts
    logged = judges_scalars({"isolated": judged, "global_pmi": {"left_out": "why"}})
    assert logged["judge_isolated/all_markov_bits"] == references.bits_H["markov"].mean()
    assert len(logged) == 2 * 5


def test_tokens_without_distributions_are_not_recalibrated(made_up):
    predictions, references = made_up
    sums = WindowSums("random", WINDOWS)
    judged = judge_masks(BasePredictions(predictions.bits_H, None), references, sums)
    assert "recalibrated" not in judged["strata"]["all"]["bits"]
    assert set(sums.arrays) == {
        f"random/{stratum}/{kind}" for stratum in ("all", "unique") for kind in ("bases", "model")
    }


def test_what_is_logged_and_what_other_pages_read(made_up):
    predictions, references = made_up
    judged = judge(predictions, references)
    scalars = named_scalars(judged)
    assert scalars["final_all/model_bits"] == pytest.approx(predictions.bits_H.mean())
    unique = references.copies_H == 0
    assert scalars["final_unique/markov_bits"] == pytest.approx(
        references.bits_H["markov"][unique].mean()
    )
    assert scalars["final_unique/hidden_bases"] == unique.sum()
    assert scalars["final_all/bits_gained_over_markov"] > 0.2
    assert reference_bits(judged) == {
        "composition_bits": 2.0,
        "markov_seen_bits": pytest.approx(references.bits_H["markov_seen"].mean()),
        "markov_bits": pytest.approx(references.bits_H["markov"].mean()),
        "markov_order": 11,
        "markov_seen_order": 8,
        "hidden_bases": WINDOWS * PER_WINDOW,
    }
