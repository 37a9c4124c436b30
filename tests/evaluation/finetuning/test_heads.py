"""Heads on dense states: what each one reads, and what it must not read."""

import pytest
import torch

from cmgems.evaluation.finetuning.heads import HEADS, build_head, from_middle, head_name
from cmgems.inference.encode import inner
from cmgems.models.dropout import SeededDropout

MODELS, LENGTHS, WIDTH, CLASSES, POSITIONS = 2, (9, 7, 9), 12, 3, 20
NONE = SeededDropout(0.0, [0] * MODELS)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(MODELS, 3, 9, WIDTH, generator=generator, dtype=torch.float64)
    real = (torch.arange(9) < torch.tensor(LENGTHS)[:, None]).expand(MODELS, 3, 9)
    return states, real


def logits(head, states, real):
    return head(head.reduce(states[:, :, : head.places], real), real, NONE)


@pytest.fixture(params=HEADS)
def head(request):
    return build_head(request.param, WIDTH, CLASSES, POSITIONS, [3, 4]).double()


def test_shape_and_padding(head, batch):
    states, real = batch
    wanted = logits(head, states, real)
    per_token = head_name(head) == "token"
    assert wanted.shape == ((MODELS, 3, 9, CLASSES) if per_token else (MODELS, 3, CLASSES))
    changed = torch.where(real[..., None], states, 1e3)  # what stands at padding must not matter
    found = logits(head, changed, real)
    if per_token:
        found, wanted = found[real], wanted[real]
    assert torch.allclose(found, wanted, atol=1e-12)


def test_models_do_not_mix(head, batch):
    states, real = batch
    wanted = logits(head, states, real)
    other = states.clone()
    other[1] += 1
    assert torch.equal(logits(head, other, real)[0], wanted[0])
    assert not torch.equal(logits(head, other, real)[1], wanted[1])


def test_a_seed_decides_the_weights_of_its_model_alone(head):
    name = head_name(head)
    alone = build_head(name, WIDTH, CLASSES, POSITIONS, [4]).double()
    for (_, both), (_, one) in zip(head.named_parameters(), alone.named_parameters(), strict=True):
        assert torch.equal(both[1], one[0])


def test_inner_leaves_out_the_first_and_the_last_real_token(batch):
    _, real = batch
    assert inner(real)[0].sum(-1).tolist() == [7, 5, 7]
    assert not inner(real)[..., 0].any()
    assert not inner(real)[0, 1, 6]  # [SEP] of the shorter one


def test_mean_and_max_equal_the_plain_ones(batch):
    states, real = batch
    for name, plain in (
        ("mean", lambda x: x.mean(0)),
        ("max", lambda x: x.amax(0)),
        ("mean_max", lambda x: torch.cat([x.mean(0), x.amax(0)])),
    ):
        found = HEADS[name](MODELS, WIDTH, CLASSES, POSITIONS).reduce(states, real)
        assert torch.allclose(found[1, 1, 0], plain(states[1, 1, 1:6]))


def test_position_knows_where_something_is_and_mean_does_not(batch):
    states, real = batch
    moved = states.clone()
    moved[:, 0, 1:8] = states[:, 0, 1:8].roll(1, dims=1)
    for name, changes in (("position", True), ("mean", False)):
        head = build_head(name, WIDTH, CLASSES, POSITIONS, [3, 4]).double()
        same = torch.allclose(logits(head, moved, real), logits(head, states, real), atol=1e-12)
        assert same != changes


def test_places_count_from_the_middle_whatever_the_length(batch):
    _, real = batch
    places = from_middle(real, POSITIONS)
    assert places[0, 0, 4] == places[0, 1, 3] == POSITIONS // 2  # of 9 and of 7 tokens
