"""The words of a summary follow from the intervals."""

import re

import pytest

from cmgems.runs.hidden_bases import hidden_bases_table, hidden_bases_verdict, judges_table


def around(mean, half):
    return {"mean": mean, "low": mean - half, "high": mean + half}


def hidden(composition=0.0, seen=0.0, everything=0.0, gain=None):
    """A run of which these are the differences to the references, each 0.01 wide."""
    less = {"composition": composition, "markov_seen": seen, "markov": everything}
    found = {
        "bases": 100,
        "fraction": 1.0,
        "bits": {name: around(1.9, 0.02) for name in ("model", *less)},
        "model_less": {name: around(mean, 0.01) for name, mean in less.items()},
    }
    if gain is not None:
        found["gained_over_markov"] = around(gain, 0.01)
    content = {"windows": 9, "strata": {"all": found, "unique": found | {"fraction": 0.5}}}
    return content if gain is not None else content | {"gain_left_out": "words give none"}


@pytest.mark.parametrize(
    ("differences", "words"),
    [
        (
            (-0.1, -0.1, -0.02),
            "below composition, the Markov model of the same data and the Markov model of all "
            "training data",
        ),
        (
            (-0.1, 0.005, 0.02),
            "below composition, not told apart from the Markov model of the same data, and above "
            "the Markov model of all training data",
        ),
        (
            (-0.1, -0.02, 0.02),
            "below composition and the Markov model of the same data, and above the Markov model "
            "of all training data",
        ),
        (
            (0.0, 0.0, 0.0),
            "not told apart from composition, the Markov model of the same data and the Markov "
            "model of all training data",
        ),
    ],
)
def test_where_the_model_stands(differences, words):
    over_all, unique, _ = hidden_bases_verdict(hidden(*differences, gain=0.0))
    assert over_all == f"Over all hidden bases the model is {words}."
    assert unique == f"In unique DNA it is {words}."


def test_what_the_model_gains():
    assert hidden_bases_verdict(hidden(gain=0.009))[2].endswith("gains nothing over it.")
    assert hidden_bases_verdict(hidden(gain=0.05))[2].endswith(
        "gains 0.050 bits per base over it (0.040 to 0.060)."
    )
    tiny = hidden(gain=0.0)
    tiny["strata"]["all"]["gained_over_markov"] = {"mean": 2e-4, "low": 1e-4, "high": 3e-4}
    assert hidden_bases_verdict(tiny)[2].endswith("gains less than 0.001 bits per base over it.")
    left_out = hidden_bases_verdict(hidden())[2]
    assert left_out == "What it gains over the Markov model is not measured: words give none."


def test_a_single_window_has_no_interval():
    run = hidden(-0.1, gain=0.2)
    for found in run["strata"].values():
        for interval in (*found["model_less"].values(), found["gained_over_markov"]):
            interval.update(low=None, high=None)
    sentences = hidden_bases_verdict(run)
    assert sentences[0].startswith("Over all hidden bases the model is not told apart from comp")
    assert sentences[2].endswith("gains nothing over it.")


def test_the_table_has_half_of_each_interval():
    lines = hidden_bases_table(hidden(gain=0.05)).splitlines()
    assert lines[0].split("  ")[-1] == "gained over Markov"
    assert lines[1].split("  ")[-1].strip() == "0.050 ±0.010"
    assert lines[1].count("1.900 ±0.020") == 4
    assert lines[2].split()[:3] == ["unique", "DNA", "50%"]
    assert "gained" not in hidden_bases_table(hidden())


def test_the_table_of_judges_has_what_each_gives():
    """A judge that is left out, or that cannot recalibrate, has a dash."""
    bits = {"model": around(1.9, 0.02), "recalibrated": around(1.8, 0.01)}
    bits["markov"] = around(1.7, 0.03)
    plain = {name: interval for name, interval in bits.items() if name != "recalibrated"}
    lines = judges_table(
        {
            "random_wide": {"strata": {"all": {"bits": bits}, "unique": {"bits": bits}}},
            "isolated": {"strata": {"all": {"bits": plain}}},
            "global_pmi": {"left_out": "why"},
        }
    ).splitlines()
    cells = [re.split(r"  +", line.strip()) for line in lines]
    assert cells[1][1:] == [
        "1.900 ±0.020", "1.800 ±0.010", "1.900 ±0.020", "1.800 ±0.010", "1.700 ±0.030"
    ]  # fmt: skip
    assert cells[2][1:] == ["1.900 ±0.020", "-", "-", "-", "-"]
    assert cells[3] == ["masks of PMI", *"-----"]
