"""DNABERT-2 and Nucleotide Transformer v2 as published, whose own Python is not run.

The references compute what that Python does (`bert_layers.py`, `modeling_esm.py`), from its names,
for a single sequence.
"""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from cmgems.errors import UserError
from cmgems.hub.folder import write_tokenizer
from cmgems.hub.pretrained import load_pretrained
from cmgems.models.layouts import SequenceLayout
from cmgems.tokenization import OverlappingKmers

K3 = OverlappingKmers(3)
LAYERS, WIDTH, HEADS, INNER, LENGTH = 2, 24, 6, 40, 17
SIZES = {
    "num_hidden_layers": LAYERS,
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "vocab_size": K3.vocab_size,
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.0,
}
DNABERT2 = SIZES | {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "auto_map": {"AutoModelForMaskedLM": "bert_layers.BertForMaskedLM"},
    "alibi_starting_size": 512,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 40,
    "position_embedding_type": "absolute",
}
NT2 = SIZES | {
    "model_type": "esm",
    "architectures": ["EsmForMaskedLM"],
    "auto_map": {"AutoModelForMaskedLM": "modeling_esm.EsmForMaskedLM"},
    "add_bias_fnn": False,
    "emb_layer_norm_before": False,
    "esmfold_config": None,
    "is_folding_model": False,
    "mask_token_id": 4,
    "max_position_embeddings": 42,
    "pad_token_id": 0,
    "position_embedding_type": "rotary",
    "tie_word_embeddings": False,
    "token_dropout": False,
    "vocab_list": None,
}


def drawn(shapes):
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=generator) * 0.3 + ("orm.weight" in name.lower())
        for name, shape in shapes.items()
    }


def with_bias(names):
    return {
        f"{name}.{kind}": shape if kind == "weight" else shape[:1]
        for name, shape in names.items()
        for kind in ("weight", "bias")
    }


def dnabert2_weights():
    square, vector = (WIDTH, WIDTH), (WIDTH,)
    shapes = {
        "bert.embeddings.word_embeddings.weight": (K3.vocab_size, WIDTH),
        "bert.embeddings.token_type_embeddings.weight": (2, WIDTH),
        **with_bias({"bert.embeddings.LayerNorm": vector, "bert.pooler.dense": square}),
        **with_bias({"cls.predictions.transform.dense": square}),
        **with_bias({"cls.predictions.transform.LayerNorm": vector}),
        "cls.predictions.decoder.bias": (K3.vocab_size,),
    }
    for number in range(LAYERS):
        layer = f"bert.encoder.layer.{number}"
        shapes |= with_bias(
            {
                f"{layer}.attention.self.Wqkv": (3 * WIDTH, WIDTH),
                f"{layer}.attention.output.dense": square,
                f"{layer}.attention.output.LayerNorm": vector,
                f"{layer}.mlp.wo": (WIDTH, INNER),
                f"{layer}.mlp.layernorm": vector,
            }
        )
        shapes[f"{layer}.mlp.gated_layers.weight"] = (2 * INNER, WIDTH)
    weights = drawn(shapes)
    weights["cls.predictions.decoder.weight"] = weights["bert.embeddings.word_embeddings.weight"]
    return weights


def nt2_weights():
    square, vector = (WIDTH, WIDTH), (WIDTH,)
    shapes = {
        "esm.embeddings.word_embeddings.weight": (K3.vocab_size, WIDTH),
        **with_bias({"esm.encoder.emb_layer_norm_after": vector, "lm_head.dense": square}),
        **with_bias({"lm_head.layer_norm": vector}),
        "lm_head.decoder.weight": (K3.vocab_size, WIDTH),
        "lm_head.bias": (K3.vocab_size,),
        "esm.contact_head.regression.weight": (1, LAYERS * HEADS),
        "esm.contact_head.regression.bias": (1,),
    }
    for number in range(LAYERS):
        layer = f"esm.encoder.layer.{number}"
        for name in ("query", "key", "value"):
            shapes |= with_bias({f"{layer}.attention.self.{name}": square})
        shapes |= with_bias({f"{layer}.attention.output.dense": square})
        shapes |= with_bias({f"{layer}.attention.LayerNorm": vector, f"{layer}.LayerNorm": vector})
        shapes[f"{layer}.attention.self.rotary_embeddings.inv_freq"] = (WIDTH // HEADS // 2,)
        shapes[f"{layer}.intermediate.dense.weight"] = (2 * INNER, WIDTH)
        shapes[f"{layer}.output.dense.weight"] = (WIDTH, INNER)
    return drawn(shapes)


def dense(x, weights, name):
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def norm(x, weights, name):
    return F.layer_norm(x, (WIDTH,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12)


def dnabert2_logits(ids, weights):
    words = weights["bert.embeddings.word_embeddings.weight"]
    x = words[ids] + weights["bert.embeddings.token_type_embeddings.weight"][0]
    x = norm(x, weights, "bert.embeddings.LayerNorm")
    # of 6 heads: the slopes of 4, then every second one of 8
    slopes = [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]
    place = torch.arange(LENGTH)
    bias = torch.tensor(slopes)[:, None, None] * -(place[None] - place[:, None]).abs()
    for number in range(LAYERS):
        layer = f"bert.encoder.layer.{number}"
        mixed = dense(x, weights, f"{layer}.attention.self.Wqkv")
        q, k, v = mixed.view(LENGTH, 3, HEADS, -1).permute(1, 2, 0, 3)
        chance = (q @ k.mT / math.sqrt(WIDTH // HEADS) + bias).softmax(-1)
        mixed = dense((chance @ v).transpose(0, 1).flatten(1), weights,
                      f"{layer}.attention.output.dense")  # fmt: skip
        x = norm(x + mixed, weights, f"{layer}.attention.output.LayerNorm")
        both = dense(x, weights, f"{layer}.mlp.gated_layers")
        fed = dense(F.gelu(both[:, :INNER]) * both[:, INNER:], weights, f"{layer}.mlp.wo")
        x = norm(fed + x, weights, f"{layer}.mlp.layernorm")
    x = F.gelu(dense(x, weights, "cls.predictions.transform.dense"))
    x = norm(x, weights, "cls.predictions.transform.LayerNorm")
    return dense(x, weights, "cls.predictions.decoder")


def turned(x):
    """Rotary as in ESM: x cos + rotate_half(x) sin."""
    size = x.shape[-1]
    angle = torch.outer(torch.arange(LENGTH), 10_000 ** (-torch.arange(0, size, 2) / size))
    angle = torch.cat([angle, angle], -1)
    half = torch.cat([-x[..., size // 2 :], x[..., : size // 2]], -1)
    return x * angle.cos() + half * angle.sin()


def nt2_logits(ids, weights):
    x = weights["esm.embeddings.word_embeddings.weight"][ids]
    for number in range(LAYERS):
        layer = f"esm.encoder.layer.{number}"
        normed = norm(x, weights, f"{layer}.attention.LayerNorm")
        q, k, v = (
            dense(normed, weights, f"{layer}.attention.self.{name}")
            .view(LENGTH, HEADS, -1)
            .transpose(0, 1)
            for name in ("query", "key", "value")
        )
        chance = (turned(q) @ turned(k).mT / math.sqrt(WIDTH // HEADS)).softmax(-1)
        mixed = (chance @ v).transpose(0, 1).flatten(1)
        x = x + dense(mixed, weights, f"{layer}.attention.output.dense")
        both = dense(norm(x, weights, f"{layer}.LayerNorm"), weights, f"{layer}.intermediate.dense")
        x = x + dense(F.silu(both[:, :INNER]) * both[:, INNER:], weights, f"{layer}.output.dense")
    x = norm(x, weights, "esm.encoder.emb_layer_norm_after")
    x = norm(F.gelu(dense(x, weights, "lm_head.dense")), weights, "lm_head.layer_norm")
    return x @ weights["lm_head.decoder.weight"].T + weights["lm_head.bias"]


UNNAMED = {key: DNABERT2[key] for key in DNABERT2 if key not in ("model_type", "architectures")}
KINDS = {
    "dnabert2": (DNABERT2, dnabert2_weights, dnabert2_logits),
    "dnabert2-unnamed": (UNNAMED, dnabert2_weights, dnabert2_logits),
    "nucleotide-transformer-v2": (NT2, nt2_weights, nt2_logits),
}


def published(folder, config, weights):
    """A folder with `pytorch_model.bin`, and our own tokens in the place of theirs."""
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(weights, folder / "pytorch_model.bin")
    write_tokenizer(folder, K3, 40)
    return folder


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("old_names", [False, True])
def test_published_weights_have_their_logits(kind, old_names, tmp_path):
    config, draw, logits = KINDS[kind]
    weights = draw()
    stored = weights
    if old_names:  # of LayerNorm's weights, before transformers 1
        stored = {
            name.replace("orm.weight", "orm.gamma").replace("orm.bias", "orm.beta"): weight
            for name, weight in weights.items()
        }
    model = load_pretrained(published(tmp_path, config, stored)).model
    ids = torch.randint(5, K3.vocab_size, (LENGTH,), generator=torch.Generator().manual_seed(1))
    found = model(ids, SequenceLayout.of((LENGTH,)), torch.arange(LENGTH))
    wanted = logits(ids, weights)
    assert wanted.abs().max() > 1
    assert (found - wanted).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("kind", "keys", "without", "message"),
    [
        ("dnabert2", {"layer_norm_eps": 1e-5}, "", "layer_norm_eps: found 1e-05"),
        ("dnabert2", {}, "bert.encoder.layer.1.mlp.wo.bias", "found no weight bert.encoder.layer"),
        ("dnabert2", {"num_hidden_layers": 1}, "", "found a weight bert.encoder.layer.1."),
        ("nucleotide-transformer-v2", {"token_dropout": True}, "", "token_dropout: found True"),
        ("nucleotide-transformer-v2", {"add_bias_fnn": True}, "", "found no weight esm.encoder.la"),
        ("nucleotide-transformer-v2", {"intermediate_size": 20}, "", "found the shape"),
    ],
)  # fmt: skip
def test_another_published_model_is_refused_in_one_line(kind, keys, without, message, tmp_path):
    config, draw, _ = KINDS[kind]
    weights = draw()
    weights.pop(without, None)
    with pytest.raises(UserError) as told:
        load_pretrained(published(tmp_path, config | keys, weights))
    assert message in str(told.value)
    assert "\n" not in str(told.value)
