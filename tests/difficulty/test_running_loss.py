"""The running losses that `loss_adaptive` and `reducible` rank by, and a run resumed amid them."""

import math
import signal

import pytest
import torch
from helpers.paths import EXPERIMENTS
from helpers.runs import assert_same_run, interrupt_when_window_is_drawn

from cmgems.difficulty.running_loss import KmerLosses
from cmgems.errors import RunStopped
from cmgems.pretraining import pretrain
from cmgems.runs.experiment import load


@pytest.fixture
def losses():
    return KmerLosses(torch.tensor([2, 4, 1, 3], dtype=torch.int32))


def observe(losses, *pairs):
    index, nats = zip(*pairs, strict=True)
    losses.observe(torch.tensor(index), torch.tensor(nats, dtype=torch.float32))


def refreshed(losses):
    losses.collect(lambda tensor: tensor)
    losses.refresh()
    return losses.rank_V.tolist()


def test_ranks_are_those_of_pmi_at_first(losses):
    assert losses.rank_V.tolist() == [2, 4, 1, 3]
    assert refreshed(losses) == [2, 4, 1, 3]


def test_the_highest_mean_loss_ranks_first(losses):
    observe(losses, (0, 1.0), (0, 3.0), (1, 5.0), (2, 0.5), (3, 2.5))
    assert refreshed(losses) == [3, 1, 4, 2]


def test_equal_losses_rank_by_pmi_and_what_is_unseen_ranks_first(losses):
    observe(losses, (0, 2.0), (2, 2.0), (3, 9.0))
    assert refreshed(losses) == [4, 1, 3, 2]


def test_the_past_weighs_half_with_each_refresh(losses):
    observe(losses, (0, 4.0), (1, 3.0), (2, 0.0), (3, 0.0))
    assert refreshed(losses)[:2] == [1, 2]
    observe(losses, (0, 1.0))  # mean (4 / 2 + 1) / (1 / 2 + 1) = 2
    assert refreshed(losses)[:2] == [2, 1]
    assert losses.sums_V2[0].tolist() == [3 * 65536 // 2, 3 * 65536 // 4]


def test_sums_do_not_depend_on_order_or_processes(losses):
    pairs = [(i % 4, 0.1 * i) for i in range(40)]
    observe(losses, *pairs)
    losses.collect(lambda tensor: tensor)
    two = [KmerLosses(torch.tensor([2, 4, 1, 3], dtype=torch.int32)) for _ in range(2)]
    observe(two[0], *pairs[::-2])
    observe(two[1], *pairs[::2])
    two[0].collect(lambda tensor: tensor + two[1]._pending_V2)
    assert torch.equal(losses.sums_V2, two[0].sums_V2)


def test_with_a_reference_the_most_bits_above_it_rank_first():
    """Means are per hidden base; what was not observed costs 2 bits, what hides none is ignored."""
    losses = KmerLosses(
        torch.tensor([4, 3, 2, 1], dtype=torch.int32), torch.tensor([0.5, 1.0, 1.9, 1.5]).double()
    )
    nats = torch.tensor([6 * 0.9, 2 * 1.8, 1.4, 9.0]) * math.log(2)
    losses.observe(torch.tensor([0, 1, 1, 2]), nats, hidden_M=torch.tensor([6, 2, 1, 0]))
    # above the reference: 0.9 - 0.5, (3.6 + 1.4) / 3 - 1, 2 - 1.9, 2 - 1.5
    assert refreshed(losses) == [3, 1, 4, 2]


@pytest.mark.parametrize("strategy", ["loss_adaptive", "reducible"])
def test_stopped_and_resumed_equals_not_stopped(strategy, tiny, tmp_path, monkeypatch):
    """Stopped between two refreshes, when some losses are not yet in the ranks."""
    path = EXPERIMENTS / "pretrain/global_pmi.yaml"
    overrides = [*tiny, "train.max_steps=9", f"curriculum.strategies=[{strategy}]"]
    whole = pretrain(load(path, [*overrides, f"run.dir={tmp_path / 'whole'}"]))
    overrides.append(f"run.dir={tmp_path / 'run'}")
    interrupt_when_window_is_drawn(monkeypatch, number=4 * 4 + 1, signal_number=signal.SIGINT)
    with pytest.raises(RunStopped):
        pretrain(load(path, overrides))
    resumed = pretrain(load(path, [*overrides, "run.resume=true"]))
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    assert resumed["masked_fraction"] == whole["masked_fraction"]
