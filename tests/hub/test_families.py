"""Encoders that transformers computes under other names than BERT's, in both directions."""

import json
from dataclasses import replace

import pytest
import torch
from helpers.encoders import BERT, VARIANTS
from helpers.paths import EXPERIMENTS

from cmgems.cli import main
from cmgems.errors import UserError
from cmgems.hub.families import FAMILIES, OWN, family_of, why_no_class
from cmgems.hub.folder import write_folder, write_tokenizer
from cmgems.hub.pretrained import load_pretrained
from cmgems.models.encoder import MaskedLanguageModel
from cmgems.models.layouts import SequenceLayout
from cmgems.pretraining import pretrain
from cmgems.runs.experiment import load
from cmgems.tokenization import OverlappingKmers
from cmgems.tokenization.base import MASK

transformers = pytest.importorskip("transformers", reason="wanted: pip install cmgems[peers]")
transformers.utils.logging.disable_progress_bar()
LENGTHS = (12, 30, 30)
K3 = OverlappingKmers(3)
KNOWN = {
    "post-learned-gelu-biases-0": "BertForMaskedLM",
    "esm-rotary-gelu-biases-0": "EsmForMaskedLM",
    "esm-learned-gelu-biases-0": "EsmForMaskedLM",
    "esm-learned-gelu-published": "EsmForMaskedLM",
    "pre-rotary-geglu-biases-0": "ModernBertForMaskedLM",
    "pre-rotary-geglu-none-0": "ModernBertForMaskedLM",
    "pre-rotary-local-third": "ModernBertForMaskedLM",
    "pre-rotary-local-second": "ModernBertForMaskedLM",
    "pre-rotary-local-all": "ModernBertForMaskedLM",
}


def scramble(module, seed=0):
    """Weights with nothing at 0 or 1, where a slip would not show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.1
            parameter.copy_(noise + (1 if "norm" in name.lower() and "bias" not in name else 0))
    return module.eval()


@torch.no_grad()
def assert_alike(ours, theirs):
    """Logits within 1e-5 in float32, under padding."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, BERT.vocab_size, (len(LENGTHS), max(LENGTHS)), generator=generator)
    ids[1, 3:9] = MASK  # what token dropout goes by
    real = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    ids = ids.where(real, 0)
    wanted = theirs(input_ids=ids, attention_mask=real.long()).logits[real]
    logits = ours(ids[real], SequenceLayout.of(LENGTHS), torch.arange(sum(LENGTHS)))
    assert wanted.abs().max() > 0.3
    assert (logits - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("variant", KNOWN)
def test_an_exported_model_has_our_logits_in_transformers(variant, tmp_path):
    ours = scramble(MaskedLanguageModel(VARIANTS[variant]))
    config = ours.encoder.config
    family = family_of(config)
    assert family.model_class == KNOWN[variant]
    folder = tmp_path / "out"
    write_folder(folder, family.weights(ours), family.config(config, K3), K3, "# card\n")
    theirs, notes = transformers.AutoModelForMaskedLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert type(theirs).__name__ == KNOWN[variant]
    assert not any(notes.values()), notes
    assert_alike(ours, theirs.eval())
    back = load_pretrained(folder)
    assert back.model.encoder.config == config
    for name, weight in ours.state_dict().items():
        assert torch.equal(back.model.state_dict()[name], weight), name


@pytest.mark.parametrize("variant", KNOWN)
def test_a_model_of_transformers_has_its_logits_here(variant, tmp_path):
    config = VARIANTS[variant]
    settings = family_of(config).config(config, K3)
    classes = {
        "bert": (transformers.BertConfig, transformers.BertForMaskedLM),
        "esm": (transformers.EsmConfig, transformers.EsmForMaskedLM),
        "modernbert": (transformers.ModernBertConfig, transformers.ModernBertForMaskedLM),
    }
    config_class, model_class = classes[settings["model_type"]]
    theirs = scramble(model_class(config_class(**settings)))
    theirs.save_pretrained(tmp_path)
    write_tokenizer(tmp_path, K3, 40)
    ours = load_pretrained(tmp_path)
    assert ours.model.encoder.config == config
    assert_alike(ours.model, theirs)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in KNOWN])
def test_what_no_class_computes_is_told_in_one_line(variant):
    assert family_of(VARIANTS[variant]) is OWN
    told = why_no_class(VARIANTS[variant])
    assert told.startswith("no class of transformers computes this encoder: the nearest, ")
    assert "\n" not in told
    assert "model." in told


@pytest.mark.parametrize("variant", KNOWN)
def test_what_a_class_computes_is_told(variant):
    assert why_no_class(VARIANTS[variant]) == ""


def test_the_message_names_what_the_nearest_class_lacks():
    told = why_no_class(replace(BERT, position_embedding="alibi"))
    assert told.endswith(
        "the nearest, BertForMaskedLM, has model.position_embedding learned (found alibi)"
    )


def test_export_of_a_run(tiny, tmp_path, capsys):
    """ModernBERT's blocks with ALiBi come out in our own format, with the reason."""
    blocks = ["model.norm=pre", "model.mlp=geglu", "model.biases=false", "model.init=bert"]
    for positions in ("rotary", "alibi"):
        run, out = tmp_path / positions, tmp_path / f"{positions}-out"
        own = [*blocks, f"model.position_embedding={positions}", f"run.dir={run}"]
        pretrain(load(EXPERIMENTS / "pretrain/random.yaml", [*tiny, *own, "train.max_steps=3"]))
        capsys.readouterr()
        assert main(["export", str(run), str(out)]) == 0
        back, ours = load_pretrained(out).model, load_pretrained(run).model
        assert back.encoder.config == ours.encoder.config
        for name, weight in ours.state_dict().items():
            assert torch.equal(back.state_dict()[name], weight), name
    shown = capsys.readouterr().out
    assert "ModernBertForMaskedLM, has model.position_embedding rotary (found alibi)" in shown
    assert "ModernBertForMaskedLM" in (tmp_path / "rotary-out/README.md").read_text()
    assert not (tmp_path / "rotary-out/modeling_cmgems.py").exists()


@pytest.mark.parametrize(
    ("variant", "keys", "message"),
    [
        ("esm-rotary-gelu-biases-0", {"emb_layer_norm_before": True}, "emb_layer_norm_before: fou"),
        ("esm-rotary-gelu-biases-0", {"position_embedding_type": "relative_key"}, "is an ESM with"),
        ("esm-learned-gelu-biases-0", {"pad_token_id": 100}, "pad_token_id: found 100, wanted the"),
        ("esm-learned-gelu-published", {"tie_word_embeddings": True}, "is not tied to esm.embeddi"),
        ("pre-rotary-geglu-none-0", {"norm_eps": 2}, "norm_eps: found 2, wanted a"),
        ("pre-rotary-geglu-none-0", {"mlp_bias": True}, "mlp_bias: found True"),
        ("pre-rotary-local-third", {"layer_types": ["sliding_attention", "full_attention"]},
         "wanted 3 with full_attention at the first and at equal distances"),
        ("pre-rotary-local-third", {"layer_types": None, "global_attn_every_n_layers": 0},
         "global_attn_every_n_layers: found 0, wanted a whole number"),
        ("pre-rotary-local-third", {"local_attention": 5}, "local_attention: found 5, wanted an"),
        ("pre-rotary-geglu-none-0", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}},
         "rope_parameters: found 'yarn', wanted default"),
        ("pre-rotary-geglu-none-0", {"rope_parameters": {"full_attention": {"rope_theta": "10"}}},
         "rope_parameters: found the base '10', wanted a number"),
        ("pre-rotary-geglu-none-0", {"num_hidden_layers": 2, "layer_types": ["full_attention"] * 2},
         "found a weight model.layers.2"),
        ("pre-rotary-geglu-none-0", {"hidden_size": 64}, "found the shape"),
    ],
)  # fmt: skip
def test_another_architecture_is_refused_in_one_line(variant, keys, message, tmp_path):
    ours = scramble(MaskedLanguageModel(VARIANTS[variant]))
    family = family_of(ours.encoder.config)
    settings = family.config(ours.encoder.config, K3)
    write_folder(tmp_path / "out", family.weights(ours), settings, K3, "# card\n")
    (tmp_path / "out/config.json").write_text(json.dumps(settings | keys))
    with pytest.raises(UserError) as told:
        load_pretrained(tmp_path / "out")
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_every_family_is_told_apart():
    blocks = [tuple(sorted(map(str, family.blocks.items()))) for family in FAMILIES.values()]
    assert len(set(blocks)) == len(FAMILIES)


def test_a_folder_of_transformers_4_has_its_local_layers(tmp_path):
    """Its keys alone; what is absent is ModernBERT's default."""
    ours = scramble(MaskedLanguageModel(VARIANTS["pre-rotary-local-third"]))
    family = family_of(ours.encoder.config)
    settings = family.config(ours.encoder.config, K3)
    write_folder(tmp_path / "out", family.weights(ours), settings, K3, "# card\n")
    for key in ("layer_types", "rope_parameters", "local_rope_theta"):
        del settings[key]
    settings["global_rope_theta"] = 500
    (tmp_path / "out/config.json").write_text(json.dumps(settings))
    found = load_pretrained(tmp_path / "out").model.encoder.config
    assert found == replace(ours.encoder.config, rotary_base=500.0)
