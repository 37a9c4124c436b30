"""The rule that ends a stage: on made-up and on recorded curves (`tests/curriculum/curves`)."""

import csv
import math
from pathlib import Path

import pytest

from cmgems.config.schema import Plateau
from cmgems.curriculum.plateau import is_plateau, smoothed

CURVES = Path(__file__).parent / "curves"
UNIGRAM = 8.0
# (curve, steps of the run, steps between validations)
RECORDED = [
    (name, steps, every)
    for name, steps, spacings in [
        ("genemask_600_steps", 600, (10, 20, 50)),
        ("genemask_1200_steps", 1200, (20, 40, 60, 100)),
        ("random_600_steps", 600, (10, 20, 50)),
    ]
    for every in spacings
]


def switch(losses, first_stage=True, **plateau):
    """Number of validations after which the curriculum switches, or None."""
    for count in range(1, len(losses) + 1):
        if is_plateau(losses[:count], Plateau(**plateau), UNIGRAM, first_stage):
            return count
    return None


def recorded(name, every):
    """[(step, loss)] with a validation every so many steps, without that of the untrained model."""
    with open(CURVES / f"{name}.csv") as handle:
        rows = [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(handle)]
    return [(step, loss) for step, loss in rows if step and step % every == 0]


def switch_fraction(name, steps, every, **plateau):
    """Where in a recorded run the curriculum would have switched, 0 to 1."""
    curve = recorded(name, every)
    count = switch([loss for _, loss in curve], **plateau)
    return None if count is None else curve[count - 1][0] / steps


def test_paper_rule_is_a_change_of_the_perplexity_below_the_threshold():
    losses = [math.log(p) for p in (400, 90, 40, 20, 19.5, 10)]
    assert switch(losses, rule="paper", threshold=1.0) == 5
    assert switch(losses, rule="paper", threshold=0.1) is None
    assert switch(losses, rule="paper", threshold=25.0) == 4
    # It rose, by more and by less than the threshold.
    assert switch([math.log(4000), math.log(4002)], rule="paper", threshold=1.0) is None
    assert switch([math.log(4000), math.log(4000.9)], rule="paper", threshold=1.0) == 2


def test_relative_rule_compares_with_the_largest_drop():
    losses = [math.log(p) for p in (900, 500, 300, 280, 279, 278)]
    alone = {"patience": 1, "smoothing": 0.0, "first_stage": False}
    assert switch(losses, threshold=0.06, **alone) == 4  # 20 of 400 is 0.05
    assert switch(losses, threshold=0.04, **alone) == 5
    assert switch(losses, threshold=0.04, **(alone | {"patience": 2})) == 6
    assert switch(losses, threshold=0.002, **alone) is None


def test_the_first_stage_begins_at_the_unigram_entropy():
    """exp(8) is 2981: the first of these drops is 2081, and 200 is less than a tenth of it."""
    losses = [math.log(p) for p in (900, 700, 690)]
    assert switch(losses, threshold=0.1, patience=1, smoothing=0.0) == 2
    assert switch(losses, threshold=0.1, patience=1, smoothing=0.0, first_stage=False) == 3


def test_relative_rule_waits_until_the_unigram_entropy_is_left():
    assert switch([8.6, 8.3, *[8.0] * 20]) is None
    assert switch([8.6, 8.0, 8.0, 8.0, 6.0, 5.0, 4.9, 4.9], patience=1, smoothing=0.0) == 7


def test_what_an_untrained_model_loses_is_no_progress():
    """From 9.5 to 8 nats is a huge drop of the perplexity; were it counted, 6.0 would be flat."""
    losses = [9.5, 8.0, 7.0, 6.0, 5.6, 5.2, 5.19]
    assert switch(losses, threshold=0.04, patience=1, smoothing=0.0) == 7


def test_patience_wants_flat_validations_in_a_row():
    curve = [6.0, 5.0, 4.99, 4.0, 3.99, 3.98, 3.97]
    assert switch(curve, patience=1, smoothing=0.0, first_stage=False) == 3
    assert switch(curve, patience=2, smoothing=0.0, first_stage=False) == 6


def test_smoothing():
    assert smoothed([4.0, 2.0, 2.0], 0.5) == [4.0, 3.0, 2.5]
    assert smoothed([4.0, 2.0], 0.0) == [4.0, 2.0]


@pytest.mark.parametrize(("name", "steps", "every"), RECORDED)
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_twice_or_half_the_threshold_moves_the_switch_by_less_than_a_tenth(
    name, steps, every, factor
):
    default = Plateau().threshold
    default_switch = switch_fraction(name, steps, every)
    changed_switch = switch_fraction(name, steps, every, threshold=factor * default)
    assert 0.1 < default_switch < 0.6
    assert abs(changed_switch - default_switch) < 0.1


def test_the_papers_rule_is_more_fragile():
    """Why the default is another one: half the paper's threshold, or twice, moves the switch."""
    moves = []
    for name, steps, every in RECORDED:
        at = [
            switch_fraction(name, steps, every, rule="paper", threshold=threshold) or 1.0
            for threshold in (0.5, 1.0, 2.0)
        ]
        moves.append(max(abs(at[0] - at[1]), abs(at[2] - at[1])))
    assert max(moves) > 0.2


@pytest.mark.parametrize("every", [10, 20])
def test_never_switches_on_the_first_plateau(every):
    """The usual initialisation stays near the unigram entropy for all of this run."""
    name = "genemask_usual_initialisation"
    assert switch_fraction(name, 300, every) is None
    assert switch_fraction(name, 300, every, threshold=0.5) is None
    assert min(loss for _, loss in recorded(name, 10)) > 7.0
