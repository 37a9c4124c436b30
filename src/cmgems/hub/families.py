"""The classes of transformers that compute one of our encoders, and which one computes it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from cmgems.errors import UserError
from cmgems.hub import bert_weights, esm_weights, modernbert_weights
from cmgems.hub.conversion import Weights
from cmgems.models.encoder import EncoderConfig, MaskedLanguageModel
from cmgems.tokenization import Tokenization


class Family(NamedTuple):
    """A class of transformers, and the way there and back."""

    model_type: str  # in a config.json
    model_class: str
    blocks: dict[str, Any]  # of an encoder that it computes
    config: Callable[[EncoderConfig, Tokenization], dict[str, Any]]  # the content of config.json
    weights: Callable[[MaskedLanguageModel], Weights]
    read_config: Callable[[dict[str, Any]], EncoderConfig]
    read_weights: Callable[[Weights, EncoderConfig], Weights]


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
        ),
        Family(
            "esm",
            esm_weights.MODEL_CLASS,
            esm_weights.BLOCKS,
            esm_weights.esm_config,
            esm_weights.masked_lm_states,
            esm_weights.read_config,
            esm_weights.from_esm,
        ),
        Family(
            "modernbert",
            modernbert_weights.MODEL_CLASS,
            modernbert_weights.BLOCKS,
            modernbert_weights.modernbert_config,
            modernbert_weights.masked_lm_states,
            modernbert_weights.read_config,
            modernbert_weights.from_modernbert,
        ),
    )
}


def family_of(config: EncoderConfig) -> Family:
    """The class that computes this encoder.

    Raises
    ------
    UserError
        If there is none; it names what the nearest one lacks.
    """

    def lacks(family: Family) -> list[str]:
        return [key for key, value in family.blocks.items() if getattr(config, key) != value]

    family = min(FAMILIES.values(), key=lambda family: len(lacks(family)))
    differences = ", ".join(
        f"model.{key} {family.blocks[key]} (found {getattr(config, key)})" for key in lacks(family)
    )
    if differences:
        raise UserError(
            f"no class of transformers computes this encoder: the nearest, {family.model_class}, "
            f"has {differences}"
        )
    return family


def family_of_folder(config: dict[str, Any]) -> Family:
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
    if kind not in FAMILIES:
        raise UserError(
            f"model_type: found {config.get('model_type', config.get('architectures'))!r}, wanted "
            f"one of {', '.join(FAMILIES)}"
        )
    return FAMILIES[kind]
