"""Encoders that no class of transformers computes: the exported module, and reading it back."""

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from helpers.encoders import BERT, VARIANTS
from helpers.paths import EXPERIMENTS

from cmgems.cli import main
from cmgems.config.encoders import Model, encoder_keys
from cmgems.errors import UserError
from cmgems.hub.families import OWN, family_of
from cmgems.hub.folder import write_folder
from cmgems.hub.own_weights import MODULE
from cmgems.hub.pretrained import load_pretrained
from cmgems.models.encoder import EncoderConfig, MaskedLanguageModel
from cmgems.models.layouts import SequenceLayout
from cmgems.pretraining import pretrain
from cmgems.runs.experiment import load
from cmgems.tokenization import OverlappingKmers
from cmgems.tokenization.base import MASK

K3 = OverlappingKmers(3)
LENGTHS = (12, 30, 30, 3)
OWN_VARIANTS = [name for name, config in VARIANTS.items() if family_of(config) is OWN]
PRESETS = {
    name: replace(
        EncoderConfig(
            **encoder_keys(Model(preset=name)) | {"num_layers": 6}, vocab_size=K3.vocab_size
        ),
        hidden_size=48,
        num_heads=6,
        intermediate_size=32,
        max_position_embeddings=40,
    )
    for name in ("conv", "conv_attention", "dnabert2", "nucleotide-transformer-v2")
}
OTHERS = {
    f"other-{mlp}": replace(VARIANTS[f"post-alibi-{mlp}-biases-0"], norm_eps=0.1, **tanh)
    for mlp, tanh in (("gelu", {"approximate_gelu": True}), ("swiglu", {}))
}
NAMED = {name: VARIANTS[name] for name in OWN_VARIANTS} | PRESETS | OTHERS


def module_of(folder):
    spec = importlib.util.spec_from_file_location("exported", folder / "modeling_cmgems.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(config, folder):
    """A folder with weights that have nothing at 0 or 1, where a slip would not show."""
    torch.manual_seed(0)
    model = MaskedLanguageModel(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            is_scale = "norm" in name and "bias" not in name
            weight.normal_(std=0.1).add_(1.0 if is_scale else 0.0)
    write_folder(folder, OWN.weights(model), OWN.config(config, K3), K3, "# card\n", MODULE)
    return model


@torch.no_grad()
@pytest.mark.parametrize("name", NAMED)
def test_the_module_has_our_logits_and_the_folder_comes_back(name, tmp_path):
    """For every block that no class computes, and the presets with all their keys."""
    ours = written(NAMED[name], tmp_path / "out")
    theirs = module_of(tmp_path / "out").load(tmp_path / "out")
    real = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    ids = torch.randint(5, BERT.vocab_size, real.shape).where(real, 0)
    ids[1, 4:9] = MASK  # what token dropout goes by
    wanted = ours(ids[real], SequenceLayout.of(LENGTHS), torch.arange(sum(LENGTHS)))
    found = theirs(ids, real)[real]
    assert wanted.abs().max() > 0.3
    assert (found - wanted).abs().max() < 1e-5
    back = load_pretrained(tmp_path / "out").model
    assert back.encoder.config == ours.encoder.config
    for name, weight in ours.state_dict().items():
        assert torch.equal(back.state_dict()[name], weight), name


def test_the_module_needs_nothing_of_ours():
    imported = re.findall(r"^(?:from|import) (\w+)", MODULE.read_text(), re.MULTILINE)
    assert set(imported) == {
        "json",
        "math",
        "collections",
        "functools",
        "pathlib",
        "types",
        "torch",
        "safetensors",
    }


def test_a_convolution_goes_out_and_is_scored(tiny, tmp_path, capsys):
    """Pretraining, export, the card's own code in a process of its own, `embed` and `score`."""
    run, out = tmp_path / "run", tmp_path / "out"
    small = ["model.preset=conv_attention", "model.init=bert", "model.num_layers=3"]
    keys = ["model.hidden_size=32", "model.intermediate_size=32", "data.tokenization=bases"]
    clear = [f"model.{key}=null" for key in ("num_heads", "max_position_embeddings")]
    settings = [*tiny, *small, *keys, *clear, f"run.dir={run}", "train.max_steps=3"]
    pretrain(load(EXPERIMENTS / "pretrain/random.yaml", settings))
    capsys.readouterr()
    assert main(["export", str(run), str(out)]) == 0
    shown = capsys.readouterr().out
    assert "the nearest, " in shown
    assert "model.attention_every_n_layers 1 (found 3)" in shown
    card = (out / "README.md").read_text()
    assert "library_name" not in card
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1].replace("PATH", str(out))
    done = subprocess.run(
        [sys.executable, "-c", code + "\nprint(logits.shape)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout == "torch.Size([1, 29, 10])\n"  # 27 bases, [CLS] and [SEP]
    (tmp_path / "dna.fa").write_text(">one\nACGTACGTTTGACCA\n>two\nGGGACCATTACA\n")
    scores = []
    for model in (run, out):
        assert main(["score", str(model), "--sequences", str(tmp_path / "dna.fa")]) == 0
        scores.append(capsys.readouterr().out)
    assert "two" in scores[0]
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"mlp": "swish"}, "mlp: found 'swish', wanted one of gelu, geglu, swiglu"),
        ({"num_layers": 0}, "num_layers: found 0, wanted 1 to 200"),
        ({"num_layers": True}, "num_layers: found True, wanted int"),
        ({"conv_dilations": []}, "conv_dilations: found [], wanted a list of numbers"),
        ({"conv_dilations": [0]}, "conv_dilations: found 0, wanted 1 to 1024"),
        ({"num_heads": 5}, "hidden_size: found 32, wanted a multiple of 2 x 5 heads"),
        ({"num_layers": 4}, "found no weight encoder.layers.3."),
        ({"num_layers": 2}, "found a weight encoder.layers.2."),
        ({"intermediate_size": 25}, "found the shape"),
        ({"biases": None}, "biases: found None, wanted bool"),
        ({"sep_token": 1}, "sep_token: found 1, wanted bool"),
        ({"vocab_size": True}, "vocab_size: found True, wanted int"),
    ],
)
def test_a_damaged_config_is_refused_in_one_line(keys, message, tmp_path):
    config = VARIANTS["pre-alibi-convolution-second"]
    written(config, tmp_path / "out")
    settings = OWN.config(config, K3) | keys
    (tmp_path / "out/config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError) as told:
        load_pretrained(tmp_path / "out")
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_a_missing_key_is_named(tmp_path):
    config = VARIANTS["pre-alibi-convolution-second"]
    written(config, tmp_path / "out")
    settings = OWN.config(config, K3)
    del settings["rotary_base"]
    (tmp_path / "out/config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="rotary_base: no such key"):
        load_pretrained(tmp_path / "out")


def test_every_preset_has_a_folder_of_some_kind():
    kinds = {
        name: family_of(EncoderConfig(**encoder_keys(Model(preset=name)), vocab_size=69)).model_type
        for name in ("small", "logo", "dnabert", "nucleotide-transformer-v1", "modern", *PRESETS)
    }
    assert kinds == {
        "small": "bert",
        "logo": "bert",
        "dnabert": "bert",
        "nucleotide-transformer-v1": "esm",
        "modern": "modernbert",
        "conv": "cmgems",
        "conv_attention": "cmgems",
        "dnabert2": "cmgems",
        "nucleotide-transformer-v2": "cmgems",
    }
