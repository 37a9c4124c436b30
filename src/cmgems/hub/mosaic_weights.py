"""Weights and sizes of DNABERT-2, a MosaicBERT, under our names: ALiBi and GEGLU in BERT's frame.

transformers has no class for it: its folders bring Python of their own, which we do not run. The
names and the arithmetic are those of that code (`bert_layers.py`):

- Query, key and value are one product, `Wqkv`, with biases.
- The feed-forward's first product, `gated_layers`, has no biases; its first half is gated by GELU.
- A token-type embedding is added to every token. DNA has one type, so that vector becomes part of
  the token embeddings; the output weights, which are the token embeddings without it, then are
  weights of their own.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from cmgems.hub.bert_weights import (
    BIAS,
    DECODER,
    DECODER_BIAS,
    HEAD,
    TOKEN_TYPES,
    WORDS,
)
from cmgems.hub.conversion import (
    Match,
    Weights,
    check_architecture,
    from_theirs,
    in_float32,
    part,
    read_dropout,
    read_sizes,
)
from cmgems.models.encoder import EncoderConfig

ENCODER = "bert."  # begins the names of its weights
SIGN = "alibi_starting_size"  # a key of `config.json` that a plain BERT does not have
LAYER = {
    "mixer.output": "attention.output.dense",
    "mixer_norm": "attention.output.LayerNorm",
    "mlp.down": "mlp.wo",
    "norm": "mlp.layernorm",
}
NOT_READ = ("bert.pooler.dense.", "cls.seq_relationship.", "bert.encoder.alibi")
ARCHITECTURE = {"hidden_act": "gelu", "layer_norm_eps": 1e-12}


def is_mosaic(config: Mapping[str, Any]) -> bool:
    """Whether the content of a `config.json` is that of a MosaicBERT."""
    return SIGN in config


def read_config(config: dict[str, Any]) -> EncoderConfig:
    """The encoder that the content of a `config.json` describes.

    Raises
    ------
    UserError
        If it is not the configuration of DNABERT-2's kind.
    """
    check_architecture(config, ARCHITECTURE, {}, "a MosaicBERT")
    return EncoderConfig(
        **read_sizes(config),
        dropout=read_dropout(config, "hidden_dropout_prob", 0.1),
        position_embedding="alibi",
        mlp="geglu",
        mlp_biases="down",
        tie_embeddings=False,
    )


def matches(config: EncoderConfig) -> Iterator[Match]:
    """Every weight of a `MaskedLanguageModel` but the token embeddings, and its pieces there."""
    yield Match(("decoder.weight",), (WORDS,))
    yield from part(("encoder.norm",), ("bert.embeddings.LayerNorm",))
    for number in range(config.num_layers):
        ours, theirs = f"encoder.layers.{number}", f"bert.encoder.layer.{number}"
        fused = f"{ours}.mixer.query", f"{ours}.mixer.key_value"
        yield from part(fused, (f"{theirs}.attention.self.Wqkv",), shares=(1, 2))
        yield from part((f"{ours}.mlp.up",), (f"{theirs}.mlp.gated_layers",), biases=False)
        for name, piece in LAYER.items():
            yield from part((f"{ours}.{name}",), (f"{theirs}.{piece}",))
    for name, piece in HEAD.items():
        yield from part((name,), (piece,))
    yield Match(("bias",), (BIAS,))


def from_mosaic(theirs: Weights, config: EncoderConfig) -> Weights:
    """The weights of DNABERT-2's `BertForMaskedLM` under our names.

    Raises
    ------
    UserError
        If one is missing, has no place here, or contradicts what it should be a copy of.
    """
    theirs = in_float32(theirs)
    if BIAS not in theirs and DECODER_BIAS in theirs:
        theirs[BIAS] = theirs[DECODER_BIAS]
    names = [*matches(config), Match((TOKEN_TYPES,), (TOKEN_TYPES,))]
    kind = f"MosaicBERT with {config.num_layers} layers"
    ours = from_theirs(theirs, names, kind, {DECODER: WORDS, DECODER_BIAS: BIAS}, NOT_READ, ENCODER)
    ours["encoder.tokens.weight"] = ours["decoder.weight"] + ours.pop(TOKEN_TYPES)[0]
    return ours
