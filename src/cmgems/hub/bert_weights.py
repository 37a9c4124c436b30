"""Weights and sizes between our encoder and Hugging Face's BERT, in both directions.

Two things differ between the architectures:

- Key and value are one product here, two there: `key_value` is their concatenation.
- BERT adds a token-type embedding to every token. A sequence of DNA has one type only, so on import
  that vector is added to every position embedding, and an export writes zeros.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from cmgems.config.encoders import BERT_BLOCKS
from cmgems.errors import UserError
from cmgems.hub.conversion import (
    SIZES,
    Match,
    Weights,
    check_architecture,
    from_theirs,
    in_float32,
    on_its_own,
    part,
    read_dropout,
    read_eps,
    read_sizes,
    to_theirs,
)
from cmgems.models.encoder import Encoder, EncoderConfig, MaskedLanguageModel
from cmgems.tokenization import Tokenization

MODEL_CLASS = "BertForMaskedLM"
# The blocks of an encoder that this class computes, each with the values that it may have.
BLOCKS: dict[str, tuple[Any, ...]] = {key: (value,) for key, value in BERT_BLOCKS.items()}
# Whether GELU is approximated with tanh, by its name there.
APPROXIMATES = {"gelu": False, "gelu_new": True, "gelu_pytorch_tanh": True}
ENCODER = "bert."  # begins the names of its weights

TOKEN_TYPES = "bert.embeddings.token_type_embeddings.weight"
WORDS, POSITIONS = (
    "bert.embeddings.word_embeddings.weight",
    "bert.embeddings.position_embeddings.weight",
)
TYPES = 2  # rows of BERT's token-type embedding

# Parts with weight and bias: ours -> theirs; of a fused part the pieces in our order.
LAYER = {
    "mixer.query": ("attention.self.query",),
    "mixer.key_value": ("attention.self.key", "attention.self.value"),
    "mixer.output": ("attention.output.dense",),
    "mixer_norm": ("attention.output.LayerNorm",),
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
NOT_READ = ("bert.pooler.dense.", "cls.seq_relationship.", POSITION_IDS, TOKEN_TYPES)

# The architecture that ours is; a key that is absent from a config.json means the same.
ARCHITECTURE = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
    "pruned_heads": {},
}


def matches(layers: int, head: bool = True) -> Iterator[Match]:
    """Every weight of a `MaskedLanguageModel` and its pieces in a `BertForMaskedLM`.

    Without `head` those of the encoder alone, still under their names in the whole model.
    """
    yield Match(("encoder.tokens.weight",), (WORDS,))
    yield Match(("encoder.positions.weight",), (POSITIONS,))
    yield from part(("encoder.norm",), ("bert.embeddings.LayerNorm",))
    for number in range(layers):
        for ours, theirs in LAYER.items():
            pieces = tuple(f"bert.encoder.layer.{number}.{piece}" for piece in theirs)
            yield from part((f"encoder.layers.{number}.{ours}",), pieces)
    if head:
        for ours, piece in HEAD.items():
            yield from part((ours,), (piece,))
        yield Match(("bias",), (BIAS,))


def masked_lm_states(model: MaskedLanguageModel) -> Weights:
    """The weights as a `BertForMaskedLM` names them; the tied output weights are not repeated."""
    return _to_bert(model.state_dict(), matches(model.encoder.config.num_layers))


def bert_states(encoder: Encoder) -> Weights:
    """The weights of an encoder alone, under the names that a `Bert...` model of transformers has.

    For a model with another head: add the head's weights (`bert.pooler.dense.weight`,
    `classifier.weight`, ...) and write them with `cmgems.hub.folder.write_folder`.

    Raises
    ------
    UserError
        If the encoder has weights that a plain BERT does not have.
    """
    weights = {f"encoder.{name}": weight for name, weight in encoder.state_dict().items()}
    return _to_bert(weights, matches(encoder.config.num_layers, head=False))


def classifier_states(encoder: Encoder, pooler: nn.Linear, classifier: nn.Linear) -> Weights:
    """The weights of a `BertForSequenceClassification`.

    Its logits are `classifier(tanh(pooler(state of [CLS])))`, with dropout in front of the
    classifier: a head that is something else cannot be written as one.
    """
    weights = bert_states(encoder)
    for name, layer in (("bert.pooler.dense", pooler), ("classifier", classifier)):
        for kind in ("weight", "bias"):
            weights[f"{name}.{kind}"] = on_its_own(getattr(layer, kind))
    return weights


def _to_bert(ours: Weights, names: Iterator[Match]) -> Weights:
    theirs = to_theirs(ours, names, MODEL_CLASS)
    return theirs | {TOKEN_TYPES: torch.zeros(TYPES, theirs[WORDS].shape[1])}


def from_bert(theirs: Weights, config: EncoderConfig) -> Weights:
    """The weights of a `BertForMaskedLM` under our names.

    Raises
    ------
    UserError
        If one is missing, has no place here, or contradicts what it should be a copy of.
    """
    theirs = in_float32(theirs)
    if BIAS not in theirs and DECODER_BIAS in theirs:
        theirs[BIAS] = theirs[DECODER_BIAS]
    names = [*matches(config.num_layers)]
    # A weight of its own that no match names: on import it goes into the positions.
    with_types = [*names, Match((TOKEN_TYPES,), (TOKEN_TYPES,))]
    kind = f"{MODEL_CLASS} with {config.num_layers} layers"
    ours = from_theirs(theirs, with_types, kind, COPIES, NOT_READ, ENCODER)
    _check_position_ids(theirs)
    ours["encoder.positions.weight"] += ours.pop(TOKEN_TYPES)[0]
    return ours


def _check_position_ids(theirs: Weights) -> None:
    ids = theirs.get(POSITION_IDS)
    if ids is not None and not torch.equal(ids.flatten(), torch.arange(ids.numel()).to(ids)):
        raise UserError(f"{POSITION_IDS} does not count from 0, wanted ordinary positions")


def bert_config(config: EncoderConfig, tokenization: Tokenization, **more: Any) -> dict[str, Any]:
    """The content of `config.json`; `more` adds to it or replaces (`architectures`, labels).

    Raises
    ------
    ValueError
        If the vocabulary of the encoder is not that of the tokenization.
    """
    if config.vocab_size != tokenization.vocab_size:
        raise ValueError(f"{config.vocab_size} tokens are not {tokenization.description}")
    return {
        "architectures": [MODEL_CLASS],
        "model_type": "bert",
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        **ARCHITECTURE,
        "hidden_act": "gelu_new" if config.approximate_gelu else "gelu",
        "layer_norm_eps": config.norm_eps,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "initializer_range": 0.02,
        "type_vocab_size": TYPES,
        "pad_token_id": 0,
        "sep_token": config.sep_token,
        "dtype": "float32",
        **tokenization.hf_config,
        **more,
    }


def read_config(config: dict[str, Any]) -> EncoderConfig:
    """The encoder that the content of a `config.json` describes.

    Raises
    ------
    UserError
        If it is not the configuration of a BERT like ours.
    """
    check_architecture(config, ARCHITECTURE, {}, "a BERT")
    activation = config.get("hidden_act", "gelu")
    if activation not in APPROXIMATES:
        raise UserError(
            f"hidden_act: found {activation!r}, our encoder is a BERT with one of "
            f"{', '.join(APPROXIMATES)}"
        )
    return EncoderConfig(
        **read_sizes(config),
        dropout=read_dropout(config, "hidden_dropout_prob", 0.1),
        approximate_gelu=APPROXIMATES[activation],
        norm_eps=read_eps(config, "layer_norm_eps", 1e-12),
    )
