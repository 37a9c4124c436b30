"""The peers of the benchmark of training compute our encoders: same weights, same logits."""

import sys

import pytest
import torch
from helpers.paths import ROOT

from cmgems.config.schema import Data, Experiment, Model
from cmgems.models.build import encoder_config
from cmgems.models.encoder import MaskedLanguageModel
from cmgems.models.layouts import SequenceLayout

sys.path.append(str(ROOT / "benchmarks"))
from peers import IGNORED, PlainModel, copy_weights, hugging_face

LENGTHS = (40, 40, 23)
IDS = 9  # the special tokens and the four bases


def tiny(preset, **model):
    sizes = {"num_layers": 3, "hidden_size": 32, "num_heads": 4, "intermediate_size": 48}
    return Experiment(data=Data(tokenization="bases"), model=Model(preset=preset, **sizes | model))


def scrambled(experiment):
    """Our model with weights so large that a slip shows."""
    model = MaskedLanguageModel(encoder_config(experiment))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def padded_batch():
    """ids [B, S], mask, and labels of which a few count."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, IDS, (len(LENGTHS), max(LENGTHS)), generator=generator)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    wanted = (torch.rand(ids.shape, generator=generator) < 0.3) & mask
    return ids.where(mask, 0), mask, ids.where(wanted, IGNORED)


@pytest.mark.parametrize("preset", ["conv", "conv_attention", "dnabert2"])
def test_plain_peer_has_our_logits(preset):
    check_plain_peer(tiny(preset))


def test_plain_peer_has_our_logits_with_rotary_positions_and_weights_of_the_output():
    check_plain_peer(tiny("nucleotide-transformer-v2"))


@torch.no_grad()
def check_plain_peer(experiment):
    ours = scrambled(experiment)
    peer = PlainModel(ours.encoder.config)
    copy_weights(ours, peer)
    ids, mask, labels = padded_batch()
    at_M = (labels[mask] != IGNORED).nonzero()[:, 0]
    wanted = ours(ids[mask], SequenceLayout.of(LENGTHS), at_M)
    output = peer(input_ids=ids, attention_mask=mask.long(), labels=labels)
    assert wanted.abs().max() > 0.3
    torch.testing.assert_close(output.logits, wanted, rtol=1e-4, atol=1e-5)
    loss = torch.nn.functional.cross_entropy(wanted, labels[labels != IGNORED])
    torch.testing.assert_close(output.loss, loss)


@pytest.mark.parametrize(
    ("preset", "kind"), [("logo", "BertForMaskedLM"), ("modern", "ModernBertForMaskedLM")]
)
def test_peer_of_transformers_is_of_its_class_and_has_as_many_layers(preset, kind):
    pytest.importorskip("transformers", reason="wanted: pip install cmgems[peers]")
    model = hugging_face(tiny(preset), "sdpa")
    assert type(model).__name__ == kind
    assert model.config.num_hidden_layers == 3
    assert model.config._attn_implementation == "sdpa"
