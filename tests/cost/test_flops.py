"""FLOPs and parameters from sizes equal what the encoder does and has."""

from dataclasses import replace

import pytest
import torch
from helpers.encoders import VARIANTS
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cmgems.cost.flops import (
    flops_per_token,
    forward_flops_per_token,
    parameters,
    seen_tokens,
)
from cmgems.models.encoder import EncoderConfig, MaskedLanguageModel
from cmgems.models.layouts import SequenceLayout

SHAPES = [
    EncoderConfig(
        num_layers=1,
        hidden_size=32,
        num_heads=4,
        intermediate_size=48,
        vocab_size=69,
        max_position_embeddings=40,
    ),
    EncoderConfig(
        num_layers=3,
        hidden_size=48,
        num_heads=2,
        intermediate_size=200,
        vocab_size=261,
        max_position_embeddings=64,
    ),
]


GLOBAL = [*SHAPES, *(shape for shape in VARIANTS.values() if not shape.local_attention)]


@pytest.mark.parametrize("shape", GLOBAL)
@pytest.mark.parametrize("every", [1, 5])
def test_flops_equal_those_that_torch_counts(shape, every):
    tokens, sequences = 40, 3
    # double, as other libraries may multiply in float32, and torch does not count their work
    model = MaskedLanguageModel(shape).double()
    ids = torch.randint(0, shape.vocab_size, (sequences * tokens,))
    at = torch.arange(0, len(ids), every)
    # torch has no formula for the CPU's fused attention; the plain one is matrix products
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            logits = model(ids, SequenceLayout.of((tokens,) * sequences), at)
        with FlopCounterMode(display=False) as backward:
            logits.sum().backward()
    masked = len(at) / len(ids)
    counted = forward.get_total_flops()
    assert counted == round(forward_flops_per_token(shape, tokens, masked).total * len(ids))
    both = counted + backward.get_total_flops()
    assert both == round(flops_per_token(shape, tokens, masked) * len(ids))


@pytest.mark.parametrize("name", [name for name in VARIANTS if "-local-" in name])
@pytest.mark.parametrize("tokens", [3, 5, 40])
def test_local_layers_count_the_pairs_that_attend(name, tokens):
    """The difference to the same encoder with global layers, pair by pair."""
    shape = VARIANTS[name]
    missing = sum(
        reach is not None and abs(i - j) > reach
        for reach in map(shape.reach, range(shape.num_layers))
        for i in range(tokens)
        for j in range(tokens)
    )
    whole = forward_flops_per_token(replace(shape, local_attention=0), tokens, 1.0)
    found = forward_flops_per_token(shape, tokens, 1.0)
    assert found[:2] + found[3:] == whole[:2] + whole[3:]
    assert tokens * (whole.attention - found.attention) == pytest.approx(
        4 * shape.hidden_size * missing
    )
    # of the last layer the predicted tokens alone
    part = forward_flops_per_token(shape, tokens, 0.25).attention
    last = 4 * shape.hidden_size * seen_tokens(tokens, shape.reach(shape.num_layers - 1))
    assert found.attention - part == pytest.approx(0.75 * last)


def test_mixed_lengths_count_with_the_mean_over_tokens():
    shape, lengths = SHAPES[1], (40, 12, 12, 3)
    mean = sum(n * n for n in lengths) / sum(lengths)
    one_by_one = sum(n * flops_per_token(shape, n, 0.15) for n in lengths)
    assert sum(lengths) * flops_per_token(shape, mean, 0.15) == pytest.approx(one_by_one)


@pytest.mark.parametrize("shape", [*SHAPES, *VARIANTS.values()])
def test_parameters_are_counted(shape):
    assert parameters(shape) == sum(p.numel() for p in MaskedLanguageModel(shape).parameters())
