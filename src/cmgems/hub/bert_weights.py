"""Weights and sizes between our encoder and Hugging Face's BERT, in both directions.

One name map (`name_map`) serves export and import, and both are strict: a weight that has no place
on the other side is an error. Two things differ between the architectures:

- Key and value are one product here, two there: `key_value` is their concatenation.
- BERT adds a token-type embedding to every token. A sequence of DNA has one type only, so on import
  that vector is added to every position embedding, and an export writes zeros.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from cmgems.errors import UserError
from cmgems.models.encoder import Encoder, EncoderConfig, MaskedLanguageModel
from cmgems.tokenization import Tokenization

States = dict[str, Tensor]

TOKEN_TYPES = "bert.embeddings.token_type_embeddings.weight"
WORDS, POSITIONS = (
    "bert.embeddings.word_embeddings.weight",
    "bert.embeddings.position_embeddings.weight",
)
TYPES = 2  # rows of BERT's token-type embedding

# Parts with weight and bias: ours -> theirs; of a fused part the pieces in our order.
LAYER = {
    "attention.query": ("attention.self.query",),
    "attention.key_value": ("attention.self.key", "attention.self.value"),
    "attention.output": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "mlp.up": ("intermediate.dense",),
    "mlp.down": ("output.dense",),
    "norm": ("output.LayerNorm",),
}
HEAD = {
    "head_dense": "cls.predictions.transform.dense",
    "norm": "cls.predictions.transform.LayerNorm",
}
BIAS = "cls.predictions.bias"
DECODER, DECODER_BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"

# What else a BERT file may hold. Copies have to equal what they are copies of; the other heads are
# not read by masked prediction.
COPIES = {DECODER: WORDS, DECODER_BIAS: BIAS}
POSITION_IDS = "bert.embeddings.position_ids"
NOT_READ = ("bert.pooler.dense.", "cls.seq_relationship.")

# The architecture that ours is; a key that is absent from a config.json means the same.
ARCHITECTURE = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
    "pruned_heads": {},
}
SIZES = {
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_position_embeddings",
}


def name_map(layers: int, head: bool = True) -> dict[str, tuple[str, ...]]:
    """Every weight of a `MaskedLanguageModel` -> its pieces in a `BertForMaskedLM`.

    Without `head` those of the encoder alone, still under their names in the whole model.
    """
    return dict(_names(layers, head))


def _names(layers: int, head: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "encoder.tokens.weight", (WORDS,)
    yield "encoder.positions.weight", (POSITIONS,)
    yield from _part("encoder.norm", ("bert.embeddings.LayerNorm",))
    for number in range(layers):
        for ours, theirs in LAYER.items():
            pieces = tuple(f"bert.encoder.layer.{number}.{piece}" for piece in theirs)
            yield from _part(f"encoder.layers.{number}.{ours}", pieces)
    if head:
        for ours, piece in HEAD.items():
            yield from _part(ours, (piece,))
        yield "bias", (BIAS,)


def _part(ours: str, theirs: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for kind in ("weight", "bias"):
        yield f"{ours}.{kind}", tuple(f"{piece}.{kind}" for piece in theirs)


def masked_lm_states(model: MaskedLanguageModel) -> States:
    """The weights as a `BertForMaskedLM` names them; the tied output weights are not repeated."""
    return _to_bert(model.state_dict(), name_map(model.encoder.config.num_layers))


def bert_states(encoder: Encoder) -> States:
    """The weights of an encoder alone, under the names that a `Bert...` model of transformers has.

    For a model with another head: add the head's weights (`bert.pooler.dense.weight`,
    `classifier.weight`, ...) and write them with `cmgems.hub.folder.write_folder`.

    Raises
    ------
    UserError
        If the encoder has weights that a plain BERT does not have.
    """
    states = {f"encoder.{name}": state for name, state in encoder.state_dict().items()}
    return _to_bert(states, name_map(encoder.config.num_layers, head=False))


def classifier_states(encoder: Encoder, pooler: nn.Linear, classifier: nn.Linear) -> States:
    """The weights of a `BertForSequenceClassification`.

    Its logits are `classifier(tanh(pooler(state of [CLS])))`, with dropout in front of the
    classifier: a head that is something else cannot be written as one.
    """
    states = bert_states(encoder)
    for name, part in (("bert.pooler.dense", pooler), ("classifier", classifier)):
        states |= {f"{name}.{kind}": _plain(getattr(part, kind)) for kind in ("weight", "bias")}
    return states


def _to_bert(ours: States, names: dict[str, tuple[str, ...]]) -> States:
    strangers = sorted(ours.keys() ^ names.keys())
    if strangers:
        raise UserError(
            f"the model and a plain BERT differ in {strangers[0]} (and {len(strangers) - 1} other "
            f"weights), wanted a model that Hugging Face's BERT can express"
        )
    theirs = {TOKEN_TYPES: torch.zeros(TYPES, ours["encoder.positions.weight"].shape[1])}
    for name, pieces in names.items():
        for piece, part in zip(pieces, ours[name].chunk(len(pieces)), strict=True):
            theirs[piece] = _plain(part)
    return theirs


def _plain(state: Tensor) -> Tensor:
    """On its own memory: safetensors refuses views."""
    return state.detach().to("cpu", torch.float32, copy=True).contiguous()


def from_bert(theirs: States, layers: int) -> States:
    """The weights of a `BertForMaskedLM` under our names.

    Raises
    ------
    UserError
        If one is missing, has no place here, or contradicts what it should be a copy of.
    """
    theirs = {name: state.float() for name, state in theirs.items()}
    if BIAS not in theirs and DECODER_BIAS in theirs:
        theirs[BIAS] = theirs[DECODER_BIAS]
    names = name_map(layers)
    wanted = {piece for pieces in names.values() for piece in pieces} | {TOKEN_TYPES}
    missing = sorted(wanted - theirs.keys())
    if missing:
        raise UserError(
            f"found no weight {missing[0]} (and {len(missing) - 1} others are missing), wanted all "
            f"of a BertForMaskedLM with {layers} layers"
        )
    _check_extra({name: state for name, state in theirs.items() if name not in wanted}, theirs)
    ours = {name: torch.cat([theirs[p] for p in pieces]) for name, pieces in names.items()}
    ours["encoder.positions.weight"] = theirs[POSITIONS] + theirs[TOKEN_TYPES][0]
    return ours


def _check_extra(extra: States, theirs: States) -> None:
    for name, state in extra.items():
        if name in COPIES:
            if not torch.equal(state, theirs[COPIES[name]]):
                raise UserError(f"{name} is not tied to {COPIES[name]}, wanted a BERT that ties it")
        elif name == POSITION_IDS:
            if not torch.equal(state.flatten(), torch.arange(state.numel(), dtype=state.dtype)):
                raise UserError(f"{name} does not count from 0, wanted ordinary positions")
        elif not name.startswith(NOT_READ):
            raise UserError(f"found a weight {name}, which our encoder has no place for")


def bert_config(shape: EncoderConfig, tokenization: Tokenization, **more: Any) -> dict[str, Any]:
    """The content of `config.json`; `more` adds to it or replaces (`architectures`, labels).

    Raises
    ------
    ValueError
        If the vocabulary of the shape is not that of the tokenization.
    """
    if shape.vocab_size != tokenization.vocab_size:
        raise ValueError(f"{shape.vocab_size} tokens are not {tokenization.description}")
    return {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        **{theirs: getattr(shape, ours) for ours, theirs in SIZES.items()},
        **ARCHITECTURE,
        "hidden_dropout_prob": shape.dropout,
        "attention_probs_dropout_prob": shape.dropout,
        "initializer_range": 0.02,
        "type_vocab_size": TYPES,
        "pad_token_id": 0,
        "dtype": "float32",
        **tokenization.hf_config,
        **more,
    }


def shape_of(config: dict[str, Any]) -> EncoderConfig:
    """The sizes in the content of a `config.json`.

    Raises
    ------
    UserError
        If it is not the configuration of a BERT like ours.
    """
    if not _is_bert(config):
        raise UserError(
            f"model_type: found {config.get('model_type', config.get('architectures'))!r}, wanted "
            f"'bert'"
        )
    for key, wanted in ARCHITECTURE.items():
        found = config.get(key, wanted)
        if found != wanted and not (found is None and wanted == {}):
            raise UserError(f"{key}: found {found!r}, our encoder is a BERT with {wanted!r}")
    sizes = {}
    for ours, theirs in SIZES.items():
        size = config.get(theirs)
        if type(size) is not int or size < 1:
            raise UserError(f"{theirs}: found {size!r}, wanted a whole number of at least 1")
        sizes[ours] = size
    if sizes["hidden_size"] % sizes["num_heads"]:
        raise UserError(
            f"hidden_size: found {sizes['hidden_size']}, wanted a multiple of "
            f"{sizes['num_heads']} heads"
        )
    dropout = config.get("hidden_dropout_prob", 0.1)
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise UserError(
            f"hidden_dropout_prob: found {dropout!r}, wanted a number from 0 to below 1"
        )
    return EncoderConfig(**sizes, dropout=float(dropout))


def _is_bert(config: dict[str, Any]) -> bool:
    """Files from before transformers 3, DNABERT's among them, know no `model_type`."""
    if "model_type" in config:
        return config["model_type"] == "bert"
    names = config.get("architectures") or ["none"]
    return all(str(name).startswith("Bert") for name in names)
