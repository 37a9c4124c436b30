"""Weights and sizes between our encoder and Hugging Face's ESM, in both directions.

ESM normalizes the input of every part and the output of the last layer, and not the embeddings;
its positions are rotary or learned. It has things that ours lacks: a head for contacts in
proteins, which an export writes as zeros, the frequencies of rotary positions as weights, and
learned positions in front of the first, for padding.

Nucleotide Transformer's second version has ESM's names and a gated feed-forward (SwiGLU), which the
class of transformers does not compute: its folders bring Python of their own, which we do not run.
We read them, by the key `add_bias_fnn` of that code's configuration.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

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
from cmgems.models.positions import ROTARY_BASE, rotary_frequencies
from cmgems.tokenization import Tokenization
from cmgems.tokenization.base import CLS, MASK, PAD, SEP

MODEL_CLASS = "EsmForMaskedLM"
BLOCKS: dict[str, tuple[Any, ...]] = {
    "norm": ("pre",),
    "token_dropout": (True, False),
    "embedding_norm": (False,),
    "position_embedding": ("rotary", "learned"),
    "mlp": ("gelu",),
    "biases": (True,),
    "mlp_biases": ("all",),
    "tie_embeddings": (True, False),
    "rotary_base": (ROTARY_BASE,),
    "local_attention": (0,),
    "conv_stem": (0,),
    "approximate_gelu": (False,),
    "attention_every_n_layers": (1,),
}
# Ours -> theirs.
POSITIONS = {"rotary": "rotary", "learned": "absolute"}
PLACES = "esm.embeddings.position_embeddings.weight"
DECODER = "lm_head.decoder.weight"
ENCODER = "esm."  # begins the names of its weights
WORDS = "esm.embeddings.word_embeddings.weight"
LAYER = {
    "mixer_norm": ("attention.LayerNorm",),
    "mixer.query": ("attention.self.query",),
    "mixer.key_value": ("attention.self.key", "attention.self.value"),
    "mixer.output": ("attention.output.dense",),
    "norm": ("LayerNorm",),
}
MLP = {"mlp.up": "intermediate.dense", "mlp.down": "output.dense"}
GATED = "add_bias_fnn"  # a key that the second version alone has: biases of the feed-forward
CONTACTS = "esm.contact_head.regression"
FREQUENCIES = "attention.self.rotary_embeddings.inv_freq"  # of each layer
NOT_READ = (
    CONTACTS,
    "esm.pooler.",
    "esm.embeddings.position_ids",
    "esm.rotary_embeddings.",
    f"esm.encoder.layer.*.{FREQUENCIES}",  # as transformers 5 writes it
)

ARCHITECTURE = {
    "emb_layer_norm_before": False,
    "rope_theta": ROTARY_BASE,
    "is_decoder": False,
    "add_cross_attention": False,
    "is_folding_model": False,
}


def matches(config: EncoderConfig) -> Iterator[Match]:
    """Every weight of a `MaskedLanguageModel` and its pieces in an `EsmForMaskedLM`."""
    yield Match(("encoder.tokens.weight",), (WORDS,))
    if config.position_embedding == "learned":
        yield Match(("encoder.positions.weight",), (PLACES,))
    for number in range(config.num_layers):
        for ours, theirs in LAYER.items():
            pieces = tuple(f"esm.encoder.layer.{number}.{piece}" for piece in theirs)
            yield from part((f"encoder.layers.{number}.{ours}",), pieces)
        for (name, piece), biases in zip(MLP.items(), config.feed_forward_biases, strict=True):
            theirs_alone = f"esm.encoder.layer.{number}.{piece}"
            yield from part((f"encoder.layers.{number}.{name}",), (theirs_alone,), biases)
    yield from part(("encoder.final_norm",), ("esm.encoder.emb_layer_norm_after",))
    yield from part(("head_dense",), ("lm_head.dense",))
    yield from part(("norm",), ("lm_head.layer_norm",))
    yield Match(("bias",), ("lm_head.bias",))
    if not config.tie_embeddings:
        yield Match(("decoder.weight",), (DECODER,))


def masked_lm_states(model: MaskedLanguageModel) -> Weights:
    """The weights as an `EsmForMaskedLM` names them; tied output weights are not repeated."""
    config = model.encoder.config
    theirs = to_theirs(model.state_dict(), matches(config), MODEL_CLASS)
    theirs[f"{CONTACTS}.weight"] = torch.zeros(1, config.num_layers * config.num_heads)
    theirs[f"{CONTACTS}.bias"] = torch.zeros(1)
    if config.position_embedding == "learned":
        theirs[PLACES] = F.pad(theirs[PLACES], (0, 0, _places_before(PAD), 0))
        return theirs
    for number in range(config.num_layers):
        theirs[f"esm.encoder.layer.{number}.{FREQUENCIES}"] = rotary_frequencies(
            config.hidden_size // config.num_heads
        )
    return theirs


def _places_before(pad_token_id: int) -> int:
    """Learned positions in front of that of a sequence's first token."""
    return pad_token_id + 1


def from_esm(theirs: Weights, config: EncoderConfig) -> Weights:
    """The weights of an `EsmForMaskedLM` under our names.

    Raises
    ------
    UserError
        If one is missing, has no place here, or contradicts what it should be a copy of.
    """
    kind = f"{MODEL_CLASS} with {config.num_layers} layers"
    of_layers = tuple(f"esm.encoder.layer.{n}.{FREQUENCIES}" for n in range(config.num_layers))
    copies = {DECODER: WORDS} if config.tie_embeddings else {}
    not_read = NOT_READ + of_layers
    ours = from_theirs(in_float32(theirs), matches(config), kind, copies, not_read, ENCODER)
    if config.position_embedding == "learned":
        ours["encoder.positions.weight"] = ours["encoder.positions.weight"][
            -config.max_position_embeddings :
        ]
    return ours


def esm_config(config: EncoderConfig, tokenization: Tokenization) -> dict[str, Any]:
    """The content of `config.json`."""
    learned = config.position_embedding == "learned"
    places = config.max_position_embeddings + learned * _places_before(PAD)
    return {
        "architectures": [MODEL_CLASS],
        "model_type": "esm",
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        **ARCHITECTURE,
        "layer_norm_eps": config.norm_eps,
        "max_position_embeddings": places,
        "position_embedding_type": POSITIONS[config.position_embedding],
        "tie_word_embeddings": config.tie_embeddings,
        "token_dropout": config.token_dropout,
        "sep_token": config.sep_token,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "initializer_range": 0.02,
        "pad_token_id": PAD,
        "cls_token_id": CLS,
        "eos_token_id": SEP,
        "mask_token_id": MASK,
        "dtype": "float32",
        **tokenization.hf_config,
    }


def _read_padding(config: dict[str, Any]) -> int:
    found = config.get("pad_token_id", PAD)
    if type(found) is not int or not 0 <= found < config["max_position_embeddings"] - 1:
        raise UserError(f"pad_token_id: found {found!r}, wanted the id of a token for padding")
    return found


def read_config(config: dict[str, Any]) -> EncoderConfig:
    """The encoder that the content of a `config.json` describes.

    Raises
    ------
    UserError
        If it is not the configuration of an ESM like ours.
    """
    check_architecture(config, ARCHITECTURE, {}, "an ESM")
    kind = config.get("position_embedding_type", "absolute")
    if kind not in POSITIONS.values():
        raise UserError(
            f"position_embedding_type: found {kind!r}, our encoder is an ESM with "
            f"{' or '.join(POSITIONS.values())}"
        )
    sizes = read_sizes(config)
    if kind == "absolute":
        sizes["max_position_embeddings"] -= _places_before(_read_padding(config))
    return EncoderConfig(
        **sizes,
        dropout=read_dropout(config, "hidden_dropout_prob", 0.1),
        norm="pre",
        embedding_norm=False,
        token_dropout=bool(config.get("token_dropout")),
        position_embedding="learned" if kind == "absolute" else "rotary",
        mlp="swiglu" if GATED in config else "gelu",
        mlp_biases="all" if config.get(GATED, True) else "none",
        tie_embeddings=bool(config.get("tie_word_embeddings", True)),
        norm_eps=read_eps(config, "layer_norm_eps", 1e-12),
    )
