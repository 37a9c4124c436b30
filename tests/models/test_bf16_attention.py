"""The backward pass of attention in bfloat16, against torch's in float64."""

import pytest
import torch
import torch.nn.functional as F

from cmgems.models import bf16_attention
from cmgems.models.bf16_attention import Bf16Attention
from cmgems.models.dropout import Dropout

BATCH, HEADS, QUERIES, KEYS, SIZE = 5, 2, 7, 11, 6


def near(keys):
    distance = (torch.arange(QUERIES)[:, None] - torch.arange(keys)).abs()
    return distance <= 3


MASKS = {
    "none": None,
    "of distances": near(KEYS),
    "of each sequence": torch.arange(KEYS) < torch.arange(7, 12)[:, None, None, None],
    "slopes": -0.3 * near(KEYS).float() * torch.ones(1, HEADS, 1, 1),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("pairs_at_a_time", [1, 2 * HEADS * QUERIES * KEYS, 1 << 20])
def test_gradients_are_those_of_float64(name, pairs_at_a_time, monkeypatch):
    """For some sequences at a time, or all; tensors lie in memory as layers hand them over."""
    monkeypatch.setattr(bf16_attention, "PAIRS_AT_A_TIME", pairs_at_a_time)
    generator = torch.Generator().manual_seed(0)
    q, k, v, gradient = (
        torch.randn(BATCH, rows, HEADS, SIZE, generator=generator).bfloat16().transpose(1, 2)
        for rows in (QUERIES, KEYS, KEYS, QUERIES)
    )
    given = [x.requires_grad_() for x in (q, k, v)]
    exact = [x.detach().double().requires_grad_() for x in given]
    mask = MASKS[name]
    is_sum = mask is not None and mask.dtype != torch.bool
    rounded = mask.bfloat16() if is_sum else mask
    found = Dropout(0.0).attend(*given, rounded)
    wanted = F.scaled_dot_product_attention(*exact, rounded.double() if is_sum else mask)
    assert "Bf16Attention" in type(found.grad_fn).__name__
    assert (found - wanted).norm() < 0.01 * wanted.norm()
    gradients = torch.autograd.grad(found, given, gradient)
    wanted_gradients = torch.autograd.grad(wanted, exact, gradient.double())
    for one, other in zip(gradients, wanted_gradients, strict=True):
        assert one.dtype == torch.bfloat16
        assert (one - other).norm() < 0.01 * other.norm()


def test_serves_training_in_bfloat16_alone():
    q = torch.zeros(1, 1, 2, 4)
    assert bf16_attention.serves(q.bfloat16())
    assert not bf16_attention.serves(q)
    assert not bf16_attention.serves(q.bfloat16()[:, :, :0])
    with torch.no_grad():
        assert not bf16_attention.serves(q.bfloat16())
    dropped = Dropout(0.5).attend(*[q.bfloat16().requires_grad_()] * 3)
    assert not isinstance(dropped.grad_fn, Bf16Attention._backward_cls)
