"""DNABERT-2 and Nucleotide Transformer as published: names, vocabularies and tokens of theirs.

Their own Python is not run: the references compute what it does (`bert_layers.py`,
`modeling_esm.py`), from its names, for a single sequence. The first version of Nucleotide
Transformer is transformers' ESM.
"""

import json
import math
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from cmgems.cli import main
from cmgems.errors import UserError
from cmgems.genome.alphabet import encode_bases
from cmgems.hub.pretrained import load_pretrained
from cmgems.inference.likelihood import base_distribution
from cmgems.inference.model import PretrainedModel
from cmgems.models.layouts import SequenceLayout
from cmgems.tokenization import BytePairs, NonOverlappingKmers
from cmgems.tokenization.base import CLS, MASK, SEP

transformers = pytest.importorskip("transformers", reason="wanted: pip install cmgems[peers]")
LAYERS, WIDTH, HEADS, INNER = 2, 24, 6, 40
KMERS = ["".join(kmer) for kmer in product("ATCG", repeat=6)]
NT_TOKENS = ["<unk>", "<pad>", "<mask>", "<cls>", *KMERS, *"ATCGN", "<eos>", "<bos>"]
NT_SETTINGS = {
    "cls_token": "<cls>",
    "eos_token": None,
    "mask_token": "<mask>",
    "pad_token": "<pad>",
    "tokenizer_class": "EsmTokenizer",
    "unk_token": "<unk>",
}
MERGES = [("A", "A"), ("T", "A"), ("AA", "A"), ("C", "G"), ("CG", "CG"), ("TA", "TA")]
PAIRS = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", *"ACGT", *map("".join, MERGES)]
OURS = {"<unk>": "[UNK]", "<pad>": "[PAD]", "<mask>": "[MASK]", "<cls>": "[CLS]", "<eos>": "[SEP]"}
TEXT = "ACGTACGTTTGNACAGGATCCATTNNACGTATATAAACGCGTACCAGTTTGACAAATAT"
SIZES = {
    "num_hidden_layers": LAYERS,
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.0,
}
DNABERT2 = SIZES | {
    "vocab_size": len(PAIRS),
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "auto_map": {"AutoModelForMaskedLM": "bert_layers.BertForMaskedLM"},
    "alibi_starting_size": 512,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 40,
    "position_embedding_type": "absolute",
}
NT2 = SIZES | {
    "vocab_size": len(NT_TOKENS),
    "model_type": "esm",
    "architectures": ["EsmForMaskedLM"],
    "auto_map": {"AutoModelForMaskedLM": "modeling_esm.EsmForMaskedLM"},
    "add_bias_fnn": False,
    "emb_layer_norm_before": False,
    "esmfold_config": None,
    "is_folding_model": False,
    "mask_token_id": 2,
    "max_position_embeddings": 42,
    "pad_token_id": 1,
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
        "bert.embeddings.word_embeddings.weight": (len(PAIRS), WIDTH),
        "bert.embeddings.token_type_embeddings.weight": (2, WIDTH),
        **with_bias({"bert.embeddings.LayerNorm": vector, "bert.pooler.dense": square}),
        **with_bias({"cls.predictions.transform.dense": square}),
        **with_bias({"cls.predictions.transform.LayerNorm": vector}),
        "cls.predictions.decoder.bias": (len(PAIRS),),
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
        "esm.embeddings.word_embeddings.weight": (len(NT_TOKENS), WIDTH),
        **with_bias({"esm.encoder.emb_layer_norm_after": vector, "lm_head.dense": square}),
        **with_bias({"lm_head.layer_norm": vector}),
        "lm_head.decoder.weight": (len(NT_TOKENS), WIDTH),
        "lm_head.bias": (len(NT_TOKENS),),
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
    length = len(ids)
    place = torch.arange(length)
    bias = torch.tensor(slopes)[:, None, None] * -(place[None] - place[:, None]).abs()
    for number in range(LAYERS):
        layer = f"bert.encoder.layer.{number}"
        mixed = dense(x, weights, f"{layer}.attention.self.Wqkv")
        q, k, v = mixed.view(length, 3, HEADS, -1).permute(1, 2, 0, 3)
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
    angle = torch.outer(torch.arange(x.shape[-2]), 10_000 ** (-torch.arange(0, size, 2) / size))
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
            .view(len(ids), HEADS, -1)
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
    """A folder with `pytorch_model.bin` and the published tokenizer."""
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(weights, folder / "pytorch_model.bin")
    if "alibi_starting_size" in config:
        write_byte_pairs(folder / "tokenizer.json")
    else:
        (folder / "vocab.txt").write_text("\n".join(NT_TOKENS))
        (folder / "tokenizer_config.json").write_text(json.dumps(NT_SETTINGS))
    return folder


def write_byte_pairs(path):
    ids = {token: id_ for id_, token in enumerate(PAIRS)}
    tokenizer = Tokenizer(models.BPE(ids, MERGES, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(path))


def published_ids(folder, text):
    """int64 [T]: ids by the tokenizer that the folder's own settings make."""
    if (folder / "tokenizer.json").is_file():
        return torch.tensor(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids)
    tokenizer = transformers.EsmTokenizer(str(folder / "vocab.txt"), **NT_SETTINGS)
    return torch.tensor(tokenizer(text)["input_ids"])


def our_ids(pretrained, text):
    """int64 [T]: the same sequence in our ids, as the encoder sees it."""
    tokens = pretrained.tokenization.encode(torch.from_numpy(encode_bases(text))).tolist()
    closing = [SEP] if pretrained.model.encoder.config.sep_token else []
    return torch.tensor([CLS, *tokens, *closing])


def our_logits(model, ids):
    return model(ids, SequenceLayout.of((len(ids),)), torch.arange(len(ids)))


def in_our_order(logits, theirs, ours):
    """Their logits [T, V] by our vocabulary, -10,000 for what they do not have."""
    names = [OURS.get(token, token) for token in theirs]
    places = [names.index(token) if token in names else -1 for token in ours]
    return F.pad(logits[:, : len(theirs)], (0, 1), value=-1e4)[:, places]


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
    folder = published(tmp_path, config, stored)
    read = load_pretrained(folder)
    is_pairs = kind.startswith("dnabert2")
    assert isinstance(read.tokenization, BytePairs if is_pairs else NonOverlappingKmers)
    theirs, ours = published_ids(folder, TEXT), our_ids(read, TEXT)
    their_tokens = PAIRS if is_pairs else NT_TOKENS
    named = [OURS.get(their_tokens[id_], their_tokens[id_]) for id_ in theirs]
    assert named == [read.tokenization.vocabulary[id_] for id_ in ours]
    wanted = in_our_order(logits(theirs, weights), their_tokens, read.tokenization.vocabulary)
    assert wanted.abs().max() > 1
    assert (our_logits(read.model, ours) - wanted).abs().max() < 1e-5


@pytest.fixture(scope="module")
def first_version(tmp_path_factory):
    """(a folder of Nucleotide Transformer v1, the model of transformers that it holds); no weights
    have rows for the last two tokens of its vocabulary."""
    config = transformers.EsmConfig(
        **SIZES,
        vocab_size=len(NT_TOKENS) - 2,
        mask_token_id=2,
        pad_token_id=1,
        max_position_embeddings=42,
        attention_probs_dropout_prob=0.0,
        token_dropout=True,
        tie_word_embeddings=False,
        emb_layer_norm_before=False,
    )
    theirs = transformers.EsmForMaskedLM(config).eval()
    weights = drawn({name: weight.shape for name, weight in theirs.state_dict().items()})
    theirs.load_state_dict(weights)
    settings = {**config.to_dict(), "architectures": ["EsmForMaskedLM"]}
    return published(tmp_path_factory.mktemp("nt"), settings, weights), theirs


@torch.no_grad()
@pytest.mark.parametrize("masked", [(), (3, 4, 8)])
def test_token_dropout_of_the_first_version(masked, first_version):
    folder, theirs = first_version
    read = load_pretrained(folder)
    assert read.model.encoder.config.token_dropout
    assert read.model.encoder.config.max_position_embeddings == 40
    ids, ours = published_ids(folder, TEXT), our_ids(read, TEXT)
    ids[[*masked]], ours[[*masked]] = 2, MASK
    wanted = theirs(input_ids=ids[None], attention_mask=torch.ones_like(ids[None])).logits[0]
    wanted = in_our_order(wanted, NT_TOKENS[:-2], read.tokenization.vocabulary)
    assert wanted[:, MASK + 1 :].abs().max() > 1
    assert (our_logits(read.model, ours) - wanted).abs().max() < 1e-5


@torch.no_grad()
def test_no_sequence_ends_in_a_token_that_the_tokenizer_does_not_add(first_version):
    """Vectors per token and the distribution of a base, of several sequences at once."""
    folder, theirs = first_version
    read = load_pretrained(folder)
    for text, vectors in zip(
        (TEXT, "ACGTACGTTT"), PretrainedModel(read).embed_tokens([TEXT, "ACGTACGTTT"]), strict=True
    ):
        wanted = theirs.esm(published_ids(folder, text)[None]).last_hidden_state[0, 1:]
        assert np.abs(vectors - wanted.numpy()).max() < 1e-4
    windows = np.stack([encode_bases("ACGTACGTTTGA")] * 2)
    found = base_distribution(read.model, read.tokenization, windows, np.array([2, 7]))
    for row, (token, offset) in enumerate(((1, 2), (2, 1))):
        ids = published_ids(folder, "ACGTACGTTTGA")
        ids[token] = 2
        chance = theirs(ids[None]).logits[0, token, 4 : 4 + len(KMERS)].softmax(0)
        for code, base in enumerate("ATCG"):
            wanted = chance[[kmer[offset] == base for kmer in KMERS]].sum()
            assert float(found[row, code]) == pytest.approx(float(wanted), abs=1e-5)


@torch.no_grad()
def test_the_first_version_goes_out_as_what_it_is(first_version, tmp_path):
    """In our order of the tokens, for transformers' own classes."""
    folder, _ = first_version
    assert main(["export", str(folder), str(tmp_path / "out")]) == 0
    read, again = load_pretrained(folder), load_pretrained(tmp_path / "out")
    assert again.model.encoder.config == read.model.encoder.config
    assert not again.model.encoder.config.sep_token
    ids = our_ids(read, TEXT)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer(TEXT)["input_ids"] == ids.tolist()
    assert torch.equal(our_logits(again.model, ids), our_logits(read.model, ids))
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "out").eval()
    ids[4] = MASK
    wanted = theirs(input_ids=ids[None]).logits[0]
    assert (our_logits(read.model, ids) - wanted).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "tokenizer_config.json").unlink(), "no tokenizer_config.json"),
        (lambda folder: (folder / "vocab.txt").write_text("\n".join(NT_TOKENS[:-3])),
         "found 4100 tokens that are not special"),
        (lambda folder: (folder / "vocab.txt").write_text("\n".join([*NT_TOKENS, "<more>"])),
         "vocab_size: found 4107, but vocab.txt has 4108 tokens"),
        (lambda folder: (folder / "tokenizer_config.json").write_text("{}"),
         "vocab_size: found 4105, but vocab.txt has 4107 tokens"),
    ],
)  # fmt: skip
def test_another_vocabulary_is_refused_in_one_line(damage, message, first_version, tmp_path):
    weights = nt2_weights()
    folder = published(tmp_path, NT2, weights)
    if "4105" in message:  # its tokenizer would end each sequence in a token without weights
        (folder / "config.json").write_text((first_version[0] / "config.json").read_text())
    damage(folder)
    with pytest.raises(UserError) as told:
        load_pretrained(folder)
    assert message in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("kind", "keys", "without", "message"),
    [
        ("dnabert2", {"layer_norm_eps": 1e-5}, "", "layer_norm_eps: found 1e-05"),
        ("dnabert2", {}, "bert.encoder.layer.1.mlp.wo.bias", "found no weight bert.encoder.layer"),
        ("dnabert2", {"num_hidden_layers": 1}, "", "found a weight bert.encoder.layer.1."),
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
