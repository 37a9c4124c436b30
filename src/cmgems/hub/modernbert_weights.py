"""Weights and sizes between our encoder and Hugging Face's ModernBERT, in both directions.

ModernBERT normalizes the embeddings, so its first layer's attention has no LayerNorm of its own.
Its dropout lies elsewhere than ours in the feed-forward and is written as 0 there.
"""

from collections.abc import Iterator
from typing import Any

from cmgems.errors import UserError
from cmgems.hub.conversion import (
    SIZES,
    Match,
    Weights,
    check_architecture,
    from_theirs,
    in_float32,
    part,
    read_dropout,
    read_eps,
    read_sizes,
    to_theirs,
)
from cmgems.models.encoder import EncoderConfig, MaskedLanguageModel
from cmgems.tokenization import Tokenization
from cmgems.tokenization.base import CLS, PAD, SEP

MODEL_CLASS = "ModernBertForMaskedLM"
# With biases or without, and with any choice of local layers.
BLOCKS: dict[str, tuple[Any, ...]] = {
    "norm": ("pre",),
    "token_dropout": (False,),
    "embedding_norm": (True,),
    "position_embedding": ("rotary",),
    "mlp": ("geglu",),
    "mlp_biases": ("all",),
    "tie_embeddings": (True,),
    "conv_stem": (0,),
    "approximate_gelu": (False,),
    "attention_every_n_layers": (1,),
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
    "decoder_bias": True,
    "tie_word_embeddings": True,
}
ENCODER = "model."  # begins the names of its weights
BIASES = ("norm_bias", "attention_bias", "mlp_bias", "classifier_bias")
GLOBAL, LOCAL = "full_attention", "sliding_attention"
# What transformers 4 reads in place of `layer_types` and `rope_parameters`.
GLOBAL_EVERY = "global_attn_every_n_layers"
OLD_BASES = {GLOBAL: "global_rope_theta", LOCAL: "local_rope_theta"}
# What an absent key means.
DEFAULT_EVERY, DEFAULT_LOCAL = 3, 128
DEFAULT_BASES = {GLOBAL: 160_000.0, LOCAL: 10_000.0}


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
    kind = f"{MODEL_CLASS} with {config.num_layers} layers"
    return from_theirs(theirs, matches(config), kind, COPIES, encoder=ENCODER)


def modernbert_config(config: EncoderConfig, tokenization: Tokenization) -> dict[str, Any]:
    """The content of `config.json`."""
    reaches = [config.reach(layer) for layer in range(config.num_layers)]
    bases = {GLOBAL: config.rotary_base, LOCAL: config.local_rotary_base}
    return {
        "architectures": [MODEL_CLASS],
        "model_type": "modernbert",
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        **ARCHITECTURE,
        "norm_eps": config.norm_eps,
        **dict.fromkeys(BIASES, config.biases),
        "layer_types": [GLOBAL if reach is None else LOCAL for reach in reaches],
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": base} for kind, base in bases.items()
        },
        # Without local layers the window is not read, but it has to be one.
        "local_attention": config.local_attention or DEFAULT_LOCAL,
        # transformers 4 cannot leave out the first global layer, and fails at a distance of 0.
        GLOBAL_EVERY: config.global_attention_every_n_layers if config.local_attention else 1,
        **{OLD_BASES[kind]: base for kind, base in bases.items()},
        "embedding_dropout": config.dropout,
        "attention_dropout": config.dropout,
        "mlp_dropout": 0.0,
        "pad_token_id": PAD,
        "cls_token_id": CLS,
        "bos_token_id": CLS,
        "sep_token_id": SEP,
        "eos_token_id": SEP,
        "sep_token": config.sep_token,
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
    check_architecture(config, ARCHITECTURE, {}, "a ModernBERT")
    sizes, biases = read_sizes(config), config.get(BIASES[0], False)
    check_architecture(
        config, dict.fromkeys(BIASES, biases), dict.fromkeys(BIASES, False), "a ModernBERT"
    )
    return EncoderConfig(
        **sizes,
        **_read_local_layers(config, sizes["num_layers"]),
        dropout=read_dropout(config, "embedding_dropout", 0.0),
        norm="pre",
        position_embedding="rotary",
        mlp="geglu",
        biases=bool(biases),
        norm_eps=read_eps(config, "norm_eps", 1e-5),
    )


def _read_local_layers(config: dict[str, Any], layers: int) -> dict[str, Any]:
    """The keys of local attention, under our names."""
    every = _read_global_every(config, layers)
    bases = {kind: _read_base(config, kind) for kind in (GLOBAL, LOCAL)}
    local = config.get("local_attention", DEFAULT_LOCAL)
    if type(local) is not int or local < 2 or local % 2:
        raise UserError(f"local_attention: found {local!r}, wanted an even number of tokens")
    return {
        "rotary_base": bases[GLOBAL],
        "local_rotary_base": bases[LOCAL],
        "local_attention": 0 if every == 1 else local,
        "global_attention_every_n_layers": every,
    }


def _read_global_every(config: dict[str, Any], layers: int) -> int:
    found = config.get("layer_types")
    if found is None:
        every = config.get(GLOBAL_EVERY, DEFAULT_EVERY)
        if type(every) is not int or every < 1:
            raise UserError(f"{GLOBAL_EVERY}: found {every!r}, wanted a whole number of at least 1")
        return every
    for every in range(layers + 1):
        if found == [GLOBAL if every and n % every == 0 else LOCAL for n in range(layers)]:
            return every
    raise UserError(
        f"layer_types: found {found}, wanted {layers} with {GLOBAL} at the first and at equal "
        f"distances, and else {LOCAL}"
    )


def _read_base(config: dict[str, Any], kind: str) -> float:
    rope = (config.get("rope_parameters") or {}).get(kind) or {}
    if rope.get("rope_type", "default") != "default":
        raise UserError(f"rope_parameters: found {rope['rope_type']!r}, wanted default")
    base = rope.get("rope_theta", config.get(OLD_BASES[kind], DEFAULT_BASES[kind]))
    if not isinstance(base, int | float) or base < 2:
        raise UserError(f"rope_parameters: found the base {base!r}, wanted a number of at least 2")
    return float(base)
