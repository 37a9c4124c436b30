"""The format of encoders that no class of transformers computes: our own names, and a module.

`config.json` holds the keys of `EncoderConfig`, `model.safetensors` the weights under our names,
and `modeling_cmgems.py` beside them computes the encoder in plain torch, for whoever has no cmgems.
We never run that copy: a folder is read into our own encoder.
"""

from dataclasses import Field, asdict, fields
from pathlib import Path
from typing import Any

from cmgems.config.encoders import Model
from cmgems.config.options import accepted_type
from cmgems.errors import UserError
from cmgems.hub.conversion import Weights, on_its_own
from cmgems.models.encoder import EncoderConfig, MaskedLanguageModel
from cmgems.tokenization import Tokenization

MODEL_CLASS = "MaskedLanguageModel of modeling_cmgems.py"
ENCODER = "encoder."  # begins the names of the encoder's weights
MODULE = Path(__file__).with_name("modeling_cmgems.py")  # is copied into every such folder


def own_config(config: EncoderConfig, tokenization: Tokenization) -> dict[str, Any]:
    """The content of `config.json`."""
    return {"model_type": "cmgems", **asdict(config), "dtype": "float32", **tokenization.hf_config}


def own_states(model: MaskedLanguageModel) -> Weights:
    """The weights under our names."""
    return {name: on_its_own(weight) for name, weight in model.state_dict().items()}


def read_config(config: dict[str, Any]) -> EncoderConfig:
    """The encoder that the content of a `config.json` describes.

    Raises
    ------
    UserError
        If a key is missing, or has no such value.
    """
    keys = {part.name: _read_key(config, part) for part in fields(EncoderConfig)}
    if keys["hidden_size"] % (2 * keys["num_heads"]):
        raise UserError(
            f"hidden_size: found {keys['hidden_size']}, wanted a multiple of 2 x "
            f"{keys['num_heads']} heads"
        )
    return EncoderConfig(**keys)


def _read_key(config: dict[str, Any], wanted: Field[Any]) -> Any:
    name = wanted.name
    if name not in config:
        raise UserError(f"{name}: no such key, wanted all that describe the encoder")
    found = config[name]
    part = next((part for part in fields(Model) if part.name == name), None)
    if part is None:  # of the tokens, not of the encoder
        kind = next((number for number in (int, float) if wanted.type is number), bool)
        return _checked(name, found, kind, {int: {"low": 1}, float: {"low": 0.0}}.get(kind, {}))
    kind, _ = accepted_type(part)
    if kind != tuple[int, ...]:
        return _checked(name, found, kind, part.metadata)
    if not isinstance(found, list) or not found:
        raise UserError(f"{name}: found {found!r}, wanted a list of numbers")
    return tuple(_checked(name, each, int, part.metadata) for each in found)


def _checked(name: str, found: Any, kind: type, limits: Any) -> Any:
    accepted = (int, float) if kind is float else kind
    if not isinstance(found, accepted) or (isinstance(found, bool) and kind is not bool):
        raise UserError(f"{name}: found {found!r}, wanted {kind.__name__}")
    low, high, choices = (limits.get(limit) for limit in ("low", "high", "choices"))
    if choices and found not in choices:
        raise UserError(f"{name}: found {found!r}, wanted one of {', '.join(map(str, choices))}")
    if (low is not None and found < low) or (high is not None and found > high):
        raise UserError(f"{name}: found {found!r}, wanted {low} to {high}")
    return kind(found)


def from_own(theirs: Weights, config: EncoderConfig) -> Weights:
    """The weights of an exported folder.

    Raises
    ------
    UserError
        If one is missing, or has no place in the encoder.
    """
    wanted = MaskedLanguageModel(config).state_dict().keys()
    for name in sorted(wanted ^ theirs.keys()):
        raise UserError(
            f"found no weight {name}"
            if name in wanted
            else f"found a weight {name}, which this encoder has no place for"
        )
    return {name: weight.float() for name, weight in theirs.items()}
