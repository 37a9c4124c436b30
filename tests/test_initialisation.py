"""The fast start: what each part is meant to do, seen on the untrained model."""

import pytest
import torch

from cmgems.config import Data, Experiment, Model
from cmgems.initialisation import AMPLITUDE, NOISE
from cmgems.kmers import FIRST_KMER, vocabulary
from cmgems.pretraining import build_model


def built(preset="small", k=6, init="fast_start", seed=0, **sizes):
    model = Model(preset=preset, init=init, **sizes)
    return build_model(Experiment(seed=seed, model=model, data=Data(k=k)))


@pytest.mark.parametrize("k", [3, 6])
def test_kmers_that_share_bases_lie_near_each_other(k):
    """Cosine of two k-mers' base parts: the share of offsets at which their bases agree."""
    weight = built(k=k).encoder.tokens.weight[FIRST_KMER:, :64].detach()
    words = vocabulary(k)[FIRST_KMER:]
    centred = weight - weight.mean(0)
    for shared in range(k):
        other = words.index("A" * shared + "T" * (k - shared))
        agreement = torch.cosine_similarity(weight[0], weight[other], dim=0)
        assert agreement == pytest.approx(shared / k, abs=0.3)
    deviation = (AMPLITUDE**2 * 3 / 4 + NOISE**2) ** 0.5
    assert centred.std() == pytest.approx(deviation, rel=0.25)


@pytest.mark.parametrize(("preset", "heads"), [("small", 4), ("logo", 8), ("dnabert", 12)])
def test_heads_look_at_their_offsets(preset, heads):
    """Attention of the untrained first layer peaks at -1 +1 -3 +3 ..., the second's at -2 +2 ..."""
    encoder = built(preset, layers=2).encoder
    positions = encoder.norm(encoder.positions.weight[:120] + encoder.tokens.weight[5:125])
    for number, layer in enumerate(encoder.layers):
        width = positions.shape[1] // heads
        query = layer.query(positions).unflatten(1, (heads, width))
        key = layer.key_value(positions)[:, : positions.shape[1]].unflatten(1, (heads, width))
        scores = torch.einsum("qhe,khe->hqk", query, key)[:, 30:90]
        looked_at = scores.argmax(-1) - torch.arange(30, 90)
        for head in range(heads):
            wanted = (1 + number % 2 + 2 * (head // 2)) * (-1 if head % 2 == 0 else 1)
            assert looked_at[head].median() == wanted


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
