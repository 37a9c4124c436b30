"""Hugging Face folders as they lie about: other heads, wrapped names, pointers, web pages."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import cmgems
from cmgems.cli import main
from cmgems.errors import UserError
from cmgems.hub.families import FAMILIES
from cmgems.hub.folder import write_folder, write_tokenizer
from cmgems.hub.pretrained import load_pretrained
from cmgems.models.layouts import SequenceLayout
from cmgems.tokenization import OverlappingKmers

transformers = pytest.importorskip("transformers", reason="wanted: pip install cmgems[peers]")
transformers.utils.logging.disable_progress_bar()

K3 = OverlappingKmers(3)
IDS = torch.tensor([2, 9, 30, 4, 61, 12, 3])
SIZES = {
    "vocab_size": 69,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "pad_token_id": 0,
    "mask_token_id": 4,
}
CONFIGS = {
    "bert": transformers.BertConfig(**SIZES, max_position_embeddings=40),
    "esm": transformers.EsmConfig(
        **SIZES, max_position_embeddings=40, position_embedding_type="rotary"
    ),
    "modernbert": transformers.ModernBertConfig(
        **SIZES,
        max_position_embeddings=40,
        decoder_bias=True,
        local_attention=4,
        bos_token_id=2,
        cls_token_id=2,
        eos_token_id=3,
        sep_token_id=3,
    ),
}


def scramble(module):
    """Weights with nothing at 0 or 1, where a slip would not show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.1
            parameter.copy_(noise + (1 if "norm" in name.lower() and "bias" not in name else 0))
    return module.eval()


def saved(auto_class, config, folder):
    model = scramble(auto_class.from_config(config))
    model.save_pretrained(folder)
    write_tokenizer(folder, K3, 40)
    return model


def our_logits(model):
    return model(IDS, SequenceLayout.of((len(IDS),)), torch.arange(len(IDS)))


@torch.no_grad()
def assert_same_logits(folder, theirs):
    ours = load_pretrained(folder)
    assert ours.has_head
    assert (our_logits(ours.model) - theirs(IDS[None]).logits[0]).abs().max() < 1e-5
    return ours.model.encoder.config


@pytest.mark.parametrize("kind", CONFIGS)
@torch.no_grad()
def test_the_encoder_of_a_classifier_is_all_that_embedding_needs(kind, tmp_path, capsys):
    theirs = saved(transformers.AutoModelForSequenceClassification, CONFIGS[kind], tmp_path)
    states = theirs.base_model(IDS[None]).last_hidden_state[0]
    found = load_pretrained(tmp_path)
    layout = SequenceLayout.of((len(IDS),))
    assert (found.model.encoder(IDS, layout) - states).abs().max() < 1e-5

    model = cmgems.load_pretrained(tmp_path)
    (vector,) = model.embed(["ACGTACGT"])
    ids = [2, *K3.encode(torch.tensor([[0, 2, 3, 1, 0, 2, 3, 1]], dtype=torch.uint8))[0], 3]
    wanted = theirs.base_model(torch.tensor([ids])).last_hidden_state[0, 1:-1].mean(0)
    assert np.allclose(vector, wanted, atol=1e-5)
    message = "found an encoder with another head"
    with pytest.raises(UserError, match=message):
        model.log_likelihood(["ACGTACGT"])
    with pytest.raises(UserError, match=message):
        model.score_variants([("20", 45_000_000, "G", "A")], cmgems.load_genome("sample"))
    assert main(["export", str(tmp_path), str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def wrapped(folder, change):
    path = folder / "model.safetensors"
    save_file({change(name): weight for name, weight in load_file(path).items()}, path)


@pytest.mark.parametrize(
    "change",
    [
        lambda name: f"module.{name}",
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"),
    ],
    ids=["data parallel", "compiled", "both", "names of before 2019"],
)
def test_what_a_wrapper_did_to_the_names_is_undone(change, tmp_path):
    theirs = saved(transformers.AutoModelForMaskedLM, CONFIGS["bert"], tmp_path)
    wrapped(tmp_path, change)
    assert_same_logits(tmp_path, theirs)


@pytest.mark.parametrize("kind", CONFIGS)
@torch.no_grad()
def test_an_encoder_may_be_saved_alone(kind, tmp_path):
    theirs = saved(transformers.AutoModel, CONFIGS[kind], tmp_path)
    found = load_pretrained(tmp_path)
    assert not found.has_head
    states = found.model.encoder(IDS, SequenceLayout.of((len(IDS),)))
    assert (states - theirs(IDS[None]).last_hidden_state[0]).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("kind", "keys", "eps"),
    [
        ("bert", {"layer_norm_eps": 1e-5, "hidden_act": "gelu_new"}, 1e-5),
        ("bert", {"layer_norm_eps": 0.3, "hidden_act": "gelu_pytorch_tanh"}, 0.3),
        ("esm", {"layer_norm_eps": 0.2}, 0.2),
        ("modernbert", {"norm_eps": 0.1}, 0.1),
    ],
)
def test_other_epsilons_and_the_first_gelu(kind, keys, eps, tmp_path):
    config = type(CONFIGS[kind])(**{**CONFIGS[kind].to_dict(), **keys})
    theirs = saved(transformers.AutoModelForMaskedLM, config, tmp_path / "theirs")
    shape = assert_same_logits(tmp_path / "theirs", theirs)
    assert shape.norm_eps == eps
    ours, family = load_pretrained(tmp_path / "theirs"), FAMILIES[kind]
    folder = tmp_path / "ours"
    write_folder(folder, family.weights(ours.model), family.config(shape, K3), K3, "# card\n")
    assert assert_same_logits(folder, theirs) == shape
    again = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    assert_same_logits(tmp_path / "theirs", again)


def test_a_masked_language_model_without_its_head_is_damaged(tmp_path):
    saved(transformers.AutoModelForMaskedLM, CONFIGS["bert"], tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({n: w for n, w in load_file(path).items() if n.startswith("bert.")}, path)
    with pytest.raises(UserError, match="no head of masked prediction, wanted all of a BertForMa"):
        load_pretrained(tmp_path)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 351\n"
PAGE = "\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [(POINTER, "is a Git LFS pointer, wanted the file itself"), (PAGE, "is a web page, wanted")],
)
def test_what_stands_in_for_a_file_is_told(name, content, message, tmp_path):
    saved(transformers.AutoModelForMaskedLM, CONFIGS["bert"], tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as refused:
        load_pretrained(tmp_path)
    assert f"{tmp_path / name}: {message}" in str(refused.value)


def test_an_epsilon_that_is_none_is_refused(tmp_path):
    saved(transformers.AutoModelForMaskedLM, CONFIGS["bert"], tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"layer_norm_eps": "tiny"}))
    with pytest.raises(UserError, match="layer_norm_eps: found 'tiny', wanted a number"):
        load_pretrained(tmp_path)
