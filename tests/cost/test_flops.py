"""FLOPs and parameters from sizes equal what the encoder does and has."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cmgems.cost.flops import flops_per_token, forward_flops_per_token, parameters
from cmgems.models.attention import Layout
from cmgems.models.encoder import EncoderShape, MaskedLanguageModel

SHAPES = [
    EncoderShape(layers=1, width=32, heads=4, feed_forward=48, vocabulary=69, positions=40),
    EncoderShape(layers=3, width=48, heads=2, feed_forward=200, vocabulary=261, positions=64),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("every", [1, 5])
def test_flops_equal_those_that_torch_counts(shape, every):
    tokens, sequences = 40, 3
    # double, as other libraries may multiply in float32, and torch does not count their work
    model = MaskedLanguageModel(shape).double()
    ids = torch.randint(0, shape.vocabulary, (sequences * tokens,))
    at = torch.arange(0, len(ids), every)
    # torch has no formula for the CPU's fused attention; the plain one is matrix products
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            logits = model(ids, Layout.of((tokens,) * sequences), at)
        with FlopCounterMode(display=False) as backward:
            logits.sum().backward()
    masked = len(at) / len(ids)
    counted = forward.get_total_flops()
    assert counted == round(forward_flops_per_token(shape, tokens, masked).total * len(ids))
    both = counted + backward.get_total_flops()
    assert both == round(flops_per_token(shape, tokens, masked) * len(ids))


def test_mixed_lengths_count_with_the_mean_over_tokens():
    shape, lengths = SHAPES[1], (40, 12, 12, 3)
    mean = sum(n * n for n in lengths) / sum(lengths)
    one_by_one = sum(n * flops_per_token(shape, n, 0.15) for n in lengths)
    assert sum(lengths) * flops_per_token(shape, mean, 0.15) == pytest.approx(one_by_one)


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_are_counted(shape):
    assert parameters(shape) == sum(p.numel() for p in MaskedLanguageModel(shape).parameters())
