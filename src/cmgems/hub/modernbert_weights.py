"""Weights and sizes between our encoder and Hugging Face's ModernBERT, in both directions.

ModernBERT normalizes the embeddings, so its first layer's attention has no LayerNorm of its own.
Here every layer attends to the whole sequence, with one base of the rotary positions. Its dropout
lies elsewhere than ours in the feed-forward and is written as 0 there.
"""

from collections.abc import Iterator
from typing import Any

from cmgems.errors import UserError
from cmgems.hub.conversion import (
    SIZES,
    Match,
    Weights,
    check_architecture,
    check_rest,
    from_theirs,
    in_float32,
    part,
    read_dropout,
    read_sizes,
    to_theirs,
)
from cmgems.models.encoder import EncoderConfig, MaskedLanguageModel
from cmgems.models.positions import ROTARY_BASE
from cmgems.tokenization import Tokenization
from cmgems.tokenization.base import CLS, PAD, SEP

MODEL_CLASS = "ModernBertForMaskedLM"
# With biases or without.
BLOCKS: dict[str, Any] = {
    "norm": "pre",
    "embedding_norm": True,
    "position_embedding": "rotary",
    "mlp": "geglu",
    "conv_stem": 0,
    "attention_every_n_layers": 1,
}
WORDS = "model.embeddings.tok_embeddings.weight"
LAYER = {
    "mixer.output": "attn.Wo",
    "norm": "mlp_norm",
    "mlp.up": "mlp.Wi",
    "mlp.down": "mlp.Wo",
}
COPIES = {"decoder.weight": WORDS}

ARCHITECTURE = {
    "hidden_activation": "gelu",
    "classifier_activation": "gelu",
    "norm_eps": 1e-12,
    "decoder_bias": True,
    "tie_word_embeddings": True,
}
DEFAULTS = {"norm_eps": 1e-5}
BIASES = ("norm_bias", "attention_bias", "mlp_bias", "classifier_bias")
ROPE = {"rope_type": "default", "rope_theta": ROTARY_BASE}


def matches(config: EncoderConfig) -> Iterator[Match]:
    """Every weight of a `MaskedLanguageModel` and its pieces in a `ModernBertForMaskedLM`."""
    biases = config.biases
    yield Match(("encoder.tokens.weight",), (WORDS,))
    yield from part(("encoder.norm",), ("model.embeddings.norm",), biases)
    for number in range(config.num_layers):
        ours, theirs = f"encoder.layers.{number}", f"model.layers.{number}"
        if number:
            yield from part((f"{ours}.mixer_norm",), (f"{theirs}.attn_norm",), biases)
        fused = f"{ours}.mixer.query", f"{ours}.mixer.key_value"
        yield from part(fused, (f"{theirs}.attn.Wqkv",), biases, shares=(1, 2))
        for name, piece in LAYER.items():
            yield from part((f"{ours}.{name}",), (f"{theirs}.{piece}",), biases)
    yield from part(("encoder.final_norm",), ("model.final_norm",), biases)
    yield from part(("head_dense",), ("head.dense",), biases)
    yield from part(("norm",), ("head.norm",), biases)
    yield Match(("bias",), ("decoder.bias",))


def masked_lm_states(model: MaskedLanguageModel) -> Weights:
    """The weights as a `ModernBertForMaskedLM` names them, the tied output weights once."""
    return to_theirs(model.state_dict(), matches(model.encoder.config), MODEL_CLASS)


def from_modernbert(theirs: Weights, config: EncoderConfig) -> Weights:
    """The weights of a `ModernBertForMaskedLM` under our names.

    Raises
    ------
    UserError
        If one is missing, has no place here, or contradicts what it should be a copy of.
    """
    theirs = in_float32(theirs)
    names = [*matches(config)]
    ours = from_theirs(theirs, names, f"{MODEL_CLASS} with {config.num_layers} layers")
    check_rest(theirs, names, COPIES, not_read=())
    return ours


def modernbert_config(config: EncoderConfig, tokenization: Tokenization) -> dict[str, Any]:
    """The content of `config.json`."""
    return {
        "architectures": [MODEL_CLASS],
        "model_type": "modernbert",
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        **ARCHITECTURE,
        **dict.fromkeys(BIASES, config.biases),
        "layer_types": ["full_attention"] * config.num_layers,
        "rope_parameters": {"full_attention": ROPE, "sliding_attention": ROPE},
        # what transformers 4 reads in place of the two above
        "global_attn_every_n_layers": 1,
        "global_rope_theta": ROTARY_BASE,
        "embedding_dropout": config.dropout,
        "attention_dropout": config.dropout,
        "mlp_dropout": 0.0,
        "pad_token_id": PAD,
        "cls_token_id": CLS,
        "bos_token_id": CLS,
        "sep_token_id": SEP,
        "eos_token_id": SEP,
        "dtype": "float32",
        **tokenization.hf_config,
    }


def read_config(config: dict[str, Any]) -> EncoderConfig:
    """The encoder that the content of a `config.json` describes.

    Raises
    ------
    UserError
        If it is not the configuration of a ModernBERT like ours.
    """
    check_architecture(config, ARCHITECTURE, DEFAULTS, "a ModernBERT")
    sizes, biases = read_sizes(config), config.get(BIASES[0], False)
    check_architecture(
        config, dict.fromkeys(BIASES, biases), dict.fromkeys(BIASES, False), "a ModernBERT"
    )
    layer_types = config.get("layer_types")
    if layer_types != ["full_attention"] * sizes["num_layers"]:
        raise UserError(
            f"layer_types: found {layer_types}, wanted full_attention {sizes['num_layers']} times"
        )
    theta = ((config.get("rope_parameters") or {}).get("full_attention") or {}).get("rope_theta")
    if theta != ROTARY_BASE:
        raise UserError(f"rope_parameters: found the base {theta}, our encoder has {ROTARY_BASE}")
    dropout = read_dropout(config, "embedding_dropout", 0.0)
    return EncoderConfig(**sizes, dropout=dropout, biases=bool(biases), **BLOCKS)
