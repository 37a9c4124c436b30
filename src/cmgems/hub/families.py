"""The classes of transformers that compute one of our encoders, and which one computes it; for the
rest our own format (`cmgems.hub.own_weights`)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cmgems.errors import UserError
from cmgems.hub import (
    bert_weights,
    esm_weights,
    modernbert_weights,
    mosaic_weights,
    own_weights,
)
from cmgems.hub.conversion import Weights
from cmgems.models.encoder import EncoderConfig, MaskedLanguageModel
from cmgems.tokenization import Tokenization


class Family(NamedTuple):
    """A class of transformers, and the way there and back."""

    model_type: str  # in a config.json
    model_class: str
    blocks: dict[str, tuple[Any, ...]]  # of an encoder that it computes, with their values
    config: Callable[[EncoderConfig, Tokenization], dict[str, Any]]  # the content of config.json
    weights: Callable[[MaskedLanguageModel], Weights]
    read_config: Callable[[dict[str, Any]], EncoderConfig]
    read_weights: Callable[[Weights, EncoderConfig], Weights]
    encoder: str  # begins the names of the encoder's weights
    module: Path | None = None  # that computes it, where transformers does not


FAMILIES = {
    family.model_type: family
    for family in (
        Family(
            "bert",
            bert_weights.MODEL_CLASS,
            bert_weights.BLOCKS,
            bert_weights.bert_config,
            bert_weights.masked_lm_states,
            bert_weights.read_config,
            bert_weights.from_bert,
            bert_weights.ENCODER,
        ),
        Family(
            "esm",
            esm_weights.MODEL_CLASS,
            esm_weights.BLOCKS,
            esm_weights.esm_config,
            esm_weights.masked_lm_states,
            esm_weights.read_config,
            esm_weights.from_esm,
            esm_weights.ENCODER,
        ),
        Family(
            "modernbert",
            modernbert_weights.MODEL_CLASS,
            modernbert_weights.BLOCKS,
            modernbert_weights.modernbert_config,
            modernbert_weights.masked_lm_states,
            modernbert_weights.read_config,
            modernbert_weights.from_modernbert,
            modernbert_weights.ENCODER,
        ),
    )
}
OWN = Family(
    "cmgems",
    own_weights.MODEL_CLASS,
    {},
    own_weights.own_config,
    own_weights.own_states,
    own_weights.read_config,
    own_weights.from_own,
    own_weights.ENCODER,
    own_weights.MODULE,
)


def family_of(config: EncoderConfig) -> Family:
    """The class that computes this encoder, or else our own format."""
    family = _nearest(config)
    return OWN if _lacks(family, config) else family


def why_no_class(config: EncoderConfig) -> str:
    """What the nearest class of transformers lacks, in one line; empty: one computes it."""
    family = _nearest(config)
    differences = ", ".join(
        f"model.{key} {' or '.join(map(str, family.blocks[key]))} (found {getattr(config, key)})"
        for key in _lacks(family, config)
    )
    if not differences:
        return ""
    return (
        f"no class of transformers computes this encoder: the nearest, {family.model_class}, has "
        f"{differences}"
    )


def _nearest(config: EncoderConfig) -> Family:
    return min(FAMILIES.values(), key=lambda family: len(_lacks(family, config)))


def _lacks(family: Family, config: EncoderConfig) -> list[str]:
    return [key for key, values in family.blocks.items() if getattr(config, key) not in values]


class Reader(NamedTuple):
    """The way here alone, from a published model that no class of transformers computes."""

    read_config: Callable[[dict[str, Any]], EncoderConfig]
    read_weights: Callable[[Weights, EncoderConfig], Weights]
    encoder: str


DNABERT2 = Reader(mosaic_weights.read_config, mosaic_weights.from_mosaic, mosaic_weights.ENCODER)


def family_of_folder(config: dict[str, Any]) -> Family | Reader:
    """The class that wrote the content of a `config.json`.

    Raises
    ------
    UserError
        If it is none that cmgems knows.
    """
    kind = config.get("model_type")
    names = config.get("architectures") or ["none"]
    # Files from before transformers 3, DNABERT's among them, know no `model_type`.
    if kind is None and all(str(name).startswith("Bert") for name in names):
        kind = "bert"
    # DNABERT-2's, as it is published now, names neither a type nor a class.
    if kind in (None, "bert") and mosaic_weights.is_mosaic(config):
        return DNABERT2
    known = {**FAMILIES, OWN.model_type: OWN}
    if kind not in known:
        raise UserError(
            f"model_type: found {config.get('model_type', config.get('architectures'))!r}, wanted "
            f"one of {', '.join(known)}"
        )
    return known[kind]
