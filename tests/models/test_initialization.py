"""The fast start: what each part is meant to do, seen on the untrained model."""

import pytest
import torch

from cmgems.config.encoders import FastStart, Model
from cmgems.config.schema import Data, Experiment
from cmgems.models.build import build_model
from cmgems.models.initialization import AMPLITUDE, FOCUS, NOISE
from cmgems.tokenization import OverlappingKmers
from cmgems.tokenization.base import FIRST_TOKEN


def built(preset="small", k=6, init="fast_start", seed=0, **sizes):
    model = Model(preset=preset, init=init, **sizes)
    return build_model(Experiment(seed=seed, model=model, data=Data(k=k)))


@pytest.mark.parametrize("k", [3, 6])
def test_kmers_that_share_bases_lie_near_each_other(k):
    """Cosine of two k-mers' base parts: the share of offsets at which their bases agree."""
    weight = built(k=k).encoder.tokens.weight[FIRST_TOKEN:, :64].detach()
    words = OverlappingKmers(k).vocabulary[FIRST_TOKEN:]
    centred = weight - weight.mean(0)
    for shared in range(k):
        other = words.index("A" * shared + "T" * (k - shared))
        agreement = torch.cosine_similarity(weight[0], weight[other], dim=0)
        assert agreement == pytest.approx(shared / k, abs=0.3)
    deviation = (AMPLITUDE**2 * 3 / 4 + NOISE**2) ** 0.5
    assert centred.std() == pytest.approx(deviation, rel=0.25)


@torch.no_grad()
@pytest.mark.parametrize(("preset", "heads"), [("small", 4), ("logo", 8), ("dnabert", 12)])
def test_heads_look_at_their_offsets(preset, heads):
    """Attention of the untrained first layer peaks at -1 +1 -3 +3 ..., the second's at -2 +2 ..."""
    encoder = built(preset, num_layers=2).encoder
    positions = encoder.norm(encoder.positions.weight[:120] + encoder.tokens.weight[5:125])
    for number, layer in enumerate(encoder.layers):
        width = positions.shape[1] // heads
        query = layer.mixer.query(positions).unflatten(1, (heads, width))
        key = layer.mixer.key_value(positions)[:, : positions.shape[1]].unflatten(1, (heads, width))
        scores = torch.einsum("qhe,khe->hqk", query, key)[:, 30:90] / width**0.5
        looked_at = scores.argmax(-1) - torch.arange(30, 90)
        for head in range(heads):
            wanted = (1 + number % 2 + 2 * (head // 2)) * (-1 if head % 2 == 0 else 1)
            assert looked_at[head].median() == wanted
            share = scores[head].softmax(-1).max(-1).values.median()
            assert share == pytest.approx(FOCUS, abs=0.03)


@torch.no_grad()
@pytest.mark.parametrize("width", [128, 256, 768])
def test_what_is_fetched_arrives_with_the_variance_of_what_is_there(width):
    layer = built(hidden_size=width).encoder.layers[0]
    states = torch.randn(400, width, generator=torch.Generator().manual_seed(0))
    fetched = layer.mixer.output(layer.mixer.key_value(states)[:, width:])
    assert fetched.var() == pytest.approx(1.0, rel=0.1)


ATTENTION = "encoder.layers.{}.mixer"
PARTS = {  # part -> the weights that it alone decides
    "embeddings": ["encoder.tokens.weight"],
    "positions": ["encoder.positions.weight"],
    "heads": [
        f"encoder.layers.{n}.mixer.{part}" for n in (0, 1) for part in ("query", "key_value")
    ],
    "transport": [
        f"encoder.layers.{n}.mixer.{part}" for n in (0, 1) for part in ("output", "key_value")
    ],
}


@torch.no_grad()
@pytest.mark.parametrize("part", PARTS)
def test_each_part_can_be_left_out(part):
    """What is left out has no structure and, where nothing else says so, the same size."""
    whole, without = built(), built(fast_start=FastStart(**{part: False}))
    for (name, one), (_, other) in zip(
        whole.named_parameters(), without.named_parameters(), strict=True
    ):
        if not any(name.startswith(own) for own in PARTS[part]):
            assert one.std() == pytest.approx(other.std().item(), rel=0.1, nan_ok=True), name
    width = whole.encoder.config.hidden_size
    tokens, positions = without.encoder.tokens.weight, without.encoder.positions.weight
    layer = without.encoder.layers[0]
    if part == "embeddings":
        centred = tokens[FIRST_TOKEN:, : width // 2].detach()
        assert centred.std() == pytest.approx((AMPLITUDE**2 + NOISE**2) ** 0.5, rel=0.02)
        alike = torch.cosine_similarity(centred[0], centred[1:5], dim=-1).abs()
        assert alike.max() < 0.4  # AAAAAA and AAAAAT share five bases
    if part == "positions":
        half = positions[:, width // 2 :].detach()
        assert half.std() == pytest.approx(AMPLITUDE / 2**0.5, rel=0.02)
        assert torch.cosine_similarity(half[:-1], half[1:], dim=-1).abs().mean() < 0.2
    if part == "heads":
        assert layer.mixer.query.weight.std() == pytest.approx(0.02, rel=0.05)
    if part == "transport":
        assert layer.mixer.output.weight.std() == pytest.approx(0.02, rel=0.05)


def test_is_a_function_of_the_seed_and_touches_no_global_state():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, two, other = built(seed=1), built(seed=1), built(seed=2)
    assert torch.equal(before, torch.random.get_rng_state())
    weights = [model.encoder.tokens.weight for model in (one, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_usual_initialisation():
    model = built(init="bert")
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            assert parameter.detach().std() == pytest.approx(0.02, rel=0.05), name
