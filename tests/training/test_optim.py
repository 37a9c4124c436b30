"""Muon for the matrices of the layers, AdamW for the rest, as one optimizer."""

import copy

import pytest
import torch
from helpers.encoders import tiny_config

from cmgems.config.schema import Optim
from cmgems.errors import UserError
from cmgems.models.encoder import MaskedLanguageModel
from cmgems.runs.experiment import load
from cmgems.training.muon import Muon
from cmgems.training.optim import (
    Together,
    build_optimizer,
    linear_warmup_decay,
    rate_factor,
    warmup_stable_decay,
)

MUON = Optim(name="muon", learning_rate=1e-3, muon_learning_rate=2e-2, weight_decay=0.1)


def test_the_rate_warms_up_stays_and_decays():
    expected = [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0]
    assert [warmup_stable_decay(step, 4, 5, 12) for step in range(13)] == pytest.approx(expected)
    # Until its decay a longer run is the same one; without a decay it stays.
    assert [warmup_stable_decay(step, 4, 5, 99) for step in range(8)] == expected[:8]
    assert [warmup_stable_decay(step, 2, 0, 4) for step in range(5)] == [0.5, 1, 1, 1, 1]
    # All that is left after the warm-up: the linear schedule.
    linear = [linear_warmup_decay(step, 4, 12) for step in range(13)]
    assert [warmup_stable_decay(step, 4, 8, 12) for step in range(13)] == linear


def test_the_schedule_is_that_of_the_experiment():
    wsd = Optim(schedule="wsd", warmup_steps=4, decay_steps=5)
    assert [rate_factor(wsd, step, 12) for step in (0, 7, 8, 11)] == pytest.approx(
        [0.25, 1, 0.8, 0.2]
    )
    linear = Optim(warmup_steps=4)
    assert [rate_factor(linear, step, 12) for step in (0, 8)] == [0.25, 0.5]
    for schedule in ("wsd", "linear"):
        number, share = (
            Optim(schedule=schedule, warmup_steps=warmup_steps) for warmup_steps in (4, 0.34)
        )
        rates = [[rate_factor(optim, step, 12) for step in range(12)] for optim in (number, share)]
        assert rates[0] == rates[1]


@pytest.mark.parametrize(
    ("given", "max_steps", "steps"),
    [(0, 30, 0), (1, 30, 1), (50, 1000, 50), (0.05, 1000, 50), (0.05, 30, 2), (0.05, 1, 0)],
)
def test_a_warm_up_is_a_number_of_steps_or_a_share_of_them(given, max_steps, steps):
    assert Optim(warmup_steps=given).warmup(max_steps) == steps


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MaskedLanguageModel(tiny_config(attention_every_n_layers=2, norm="pre"))


def set_gradients(model, step):
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_every_weight_has_one_optimizer(model):
    optimizer = build_optimizer(model, MUON)
    muon, adamw = optimizer.optimizers
    names = {parameter: name for name, parameter in model.named_parameters()}
    by_muon, by_adamw = (
        {names[p] for group in each.param_groups for p in group["params"]} for each in (muon, adamw)
    )
    assert by_muon | by_adamw == set(names.values())
    assert not by_muon & by_adamw
    matrices = {name for name, p in model.named_parameters() if p.ndim == 2}
    embeddings = {"encoder.tokens.weight", "encoder.positions.weight"}
    assert by_muon == matrices - embeddings
    assert "encoder.layers.0.mixer.matrix.weight" in by_muon  # a convolution's


def test_a_step_of_muon_moves_all_directions_of_a_matrix_alike(model):
    weight = model.encoder.layers[0].mlp.up.weight
    before = weight.detach().clone()
    optimizer = build_optimizer(model, MUON)
    set_gradients(model, 0)
    optimizer.step()
    rate = MUON.muon_learning_rate
    update = (before * (1 - rate * MUON.weight_decay) - weight.detach()) / rate
    # scaled by 0.2 sqrt(the larger side), so that an entry changes by 0.2 on average, as AdamW's
    singular = torch.linalg.svdvals(update) / (0.2 * max(weight.shape) ** 0.5)
    assert singular.min() > 0.6
    assert singular.max() < 1.3


def test_muon_is_that_of_torch():
    """Matrices of a shape, lying and standing ones, are one product; torch takes each alone."""
    generator = torch.Generator().manual_seed(0)
    sides = [(8, 20), (20, 8), (8, 20), (12, 12), (30, 8)]
    ours = [torch.nn.Parameter(torch.randn(each, generator=generator)) for each in sides]
    theirs = [torch.nn.Parameter(each.detach().clone()) for each in ours]
    settings = {"lr": 1e-4, "weight_decay": 0.1}
    optimizers = (
        Muon(ours, **settings),
        torch.optim.Muon(theirs, **settings, adjust_lr_fn="match_rms_adamw"),
    )
    for step in range(4):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            # the last has no gradient at first
            if step or number < len(sides) - 1:
                one.grad = torch.randn(one.shape, generator=generator)
                other.grad = one.grad.clone()
        before = [each.detach().clone() for each in theirs]
        for optimizer in optimizers:
            optimizer.step()
        for one, other, was in zip(ours, theirs, before, strict=True):
            assert torch.allclose(one, other, rtol=0, atol=1e-6)
            if other.grad is not None:
                assert (other - was).abs().max() > 3e-5


def test_the_schedule_moves_both_rates_and_a_saved_state_goes_on(model):
    other = copy.deepcopy(model)
    optimizer = build_optimizer(model, MUON)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: linear_warmup_decay(step, 2, 10)
    )
    for step in range(3):
        set_gradients(model, step)
        optimizer.step()
        schedule.step()
    rates = [each.param_groups[0]["lr"] for each in optimizer.optimizers]
    assert rates == pytest.approx([2e-2 * 7 / 8, 1e-3 * 7 / 8])

    resumed = build_optimizer(other, MUON)
    later = torch.optim.lr_scheduler.LambdaLR(
        resumed, lambda step: linear_warmup_decay(step, 2, 10)
    )
    other.load_state_dict(model.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    later.load_state_dict(schedule.state_dict())
    for built, steps, rates_of in ((model, optimizer, schedule), (other, resumed, later)):
        set_gradients(built, 3)
        steps.step()
        rates_of.step()
    both = zip(model.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in both)
    assert [group["lr"] for group in resumed.param_groups] == [
        each["lr"] for part in resumed.optimizers for each in part.param_groups
    ]


def test_a_closure_is_called_once(model):
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = Together(torch.optim.SGD([parameter], lr=0.5))
    calls = []

    def closure():
        calls.append(1)
        loss = parameter.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 2
    assert calls == [1]
    assert parameter.tolist() == [0.5, 0.5]


def test_muon_is_refused_where_a_process_holds_parts_of_a_matrix(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("optim: {name: muon}\ntrain: {strategy: fsdp}\n")
    with pytest.raises(UserError, match=r"optim\.name: found muon with train.strategy fsdp"):
        load(path)


@pytest.mark.parametrize(
    ("optim", "message"),
    [
        ("{decay_steps: 5}", "belongs to optim.schedule wsd, found linear"),
        ("{schedule: wsd, warmup_steps: 8, decay_steps: 5}", "found 5, wanted at most .* = 4"),
    ],
)
def test_a_decay_that_does_not_fit_is_refused(optim, message, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(f"optim: {optim}\ntrain: {{max_steps: 12}}\nvalidation: {{every_n_steps: 3}}\n")
    with pytest.raises(UserError, match=message):
        load(path)
