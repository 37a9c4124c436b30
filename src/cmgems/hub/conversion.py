"""Weights and sizes under our names and under those of a class of transformers.

One list of `Match`es serves both directions, strict on both sides: a weight that has no place on
the other side is an error.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cmgems.errors import UserError

Weights = dict[str, Tensor]
Names = tuple[str, ...]

# Ours -> theirs, alike in all classes that we know.
SIZES = {
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_position_embeddings",
}


BIAS: Names = ("bias",)  # ours, of the output over the vocabulary
WRAPPERS = ("module.", "_orig_mod.")


class Match(NamedTuple):
    """The same rows under both names: ours concatenated are theirs concatenated."""

    ours: Names
    theirs: Names  # of equal size
    shares: tuple[int, ...] = (1,)  # of the rows that each of ours has


def part(
    ours: Names, theirs: Names, biases: bool = True, shares: tuple[int, ...] = (1,)
) -> Iterator[Match]:
    """The weight and, with `biases`, the bias of a part."""
    for kind in ("weight", "bias") if biases else ("weight",):
        names, pieces = ([f"{name}.{kind}" for name in side] for side in (ours, theirs))
        yield Match(tuple(names), tuple(pieces), shares)


def to_theirs(ours: Weights, matches: Iterable[Match], model_class: str) -> Weights:
    """Our weights under their names.

    Raises
    ------
    UserError
        If there is another weight than those of the matches, or one is not there.
    """
    matches = list(matches)
    mismatched = sorted(ours.keys() ^ {name for match in matches for name in match.ours})
    if mismatched:
        raise UserError(
            f"the model and a {model_class} differ in {mismatched[0]} (and "
            f"{len(mismatched) - 1} other weights), wanted a model that it can express"
        )
    theirs = {}
    for match in matches:
        rows = torch.cat([ours[name] for name in match.ours])
        for name, piece in zip(match.theirs, rows.chunk(len(match.theirs)), strict=True):
            theirs[name] = on_its_own(piece)
    return theirs


def on_its_own(weight: Tensor) -> Tensor:
    """On its own memory: safetensors refuses views."""
    return weight.detach().to("cpu", torch.float32, copy=True).contiguous()


def in_float32(theirs: Weights) -> Weights:
    """Their weights in float32; a LayerNorm's are called weight and bias, not gamma and beta."""
    return {
        name.replace(".gamma", ".weight").replace(".beta", ".bias"): weight.float()
        for name, weight in theirs.items()
    }


def from_theirs(
    theirs: Weights,
    matches: Iterable[Match],
    model_class: str,
    copies: Mapping[str, str],
    not_read: Names = (),
    encoder: str = "",
) -> Weights:
    """Their weights under our names.

    A model with another head than that of masked prediction, a classifier say, has its encoder
    read, and its head is left out.

    Parameters
    ----------
    model_class : for the message
    copies : weights that equal others
    not_read : beginnings of names that masked prediction does not read
    encoder : beginning of the names of the encoder's weights

    Raises
    ------
    UserError
        If one is missing, its rows cannot be shared out, it has no place here, or it contradicts
        what it should be a copy of.
    """
    matches = list(matches)
    if not has_head(theirs, matches):
        matches = [match for match in matches if match.theirs[0].startswith(encoder)]
        theirs = {name: weight for name, weight in theirs.items() if name.startswith(encoder)}
    missing = sorted({name for match in matches for name in match.theirs} - theirs.keys())
    if missing:
        raise UserError(
            f"found no weight {missing[0]} (and {len(missing) - 1} others are missing), wanted all "
            f"of a {model_class}"
        )
    ours: Weights = {}
    for match in matches:
        rows = torch.cat([theirs[name] for name in match.theirs])
        share, rest = divmod(len(rows), sum(match.shares))
        if rest:
            raise UserError(
                f"{match.theirs[0]}: found {len(rows)} rows, wanted a multiple of "
                f"{sum(match.shares)}"
            )
        ends = accumulate(share * count for count in match.shares)
        parts = rows.tensor_split(list(ends)[:-1])
        ours.update(zip(match.ours, parts, strict=True))
    _check_rest(theirs, matches, copies, not_read)
    return ours


def has_head(theirs: Weights, matches: Iterable[Match]) -> bool:
    """Whether the head of masked prediction is there: its bias over the vocabulary."""
    return all(name in theirs for match in matches if match.ours == BIAS for name in match.theirs)


def plain_names(theirs: Weights, encoder: str) -> Weights:
    """The weights without what wraps a model (`module.` of data parallelism, `_orig_mod.` of
    torch.compile); those of an encoder that was saved alone begin with its name."""
    for wrapper in WRAPPERS:
        if theirs and all(name.startswith(wrapper) for name in theirs):
            return plain_names({n.removeprefix(wrapper): w for n, w in theirs.items()}, encoder)
    is_alone = not any(name.startswith(encoder) for name in theirs)
    return {f"{encoder}{name}": weight for name, weight in theirs.items()} if is_alone else theirs


def _check_rest(
    theirs: Weights, matches: Iterable[Match], copies: Mapping[str, str], not_read: Names
) -> None:
    """Refuse what has no place here, or contradicts what it should be a copy of."""
    read = {name for match in matches for name in match.theirs}
    for name in theirs.keys() - read:
        if name in copies:
            if not torch.equal(theirs[name], theirs[copies[name]]):
                raise UserError(
                    f"{name} is not tied to {copies[name]}, wanted a model that ties it"
                )
        elif not name.startswith(not_read):
            raise UserError(f"found a weight {name}, which our encoder has no place for")


def check_architecture(
    config: Mapping[str, Any], wanted: Mapping[str, Any], defaults: Mapping[str, Any], kind: str
) -> None:
    """Refuse a `config.json` that means another architecture than ours.

    Parameters
    ----------
    wanted : the values that ours has
    defaults : what an absent key means, where that is not the value wanted
    kind : of the model, for the message

    Raises
    ------
    UserError
    """
    for key, value in wanted.items():
        found = config.get(key, defaults.get(key, value))
        if found != value and not (found is None and not value):
            raise UserError(f"{key}: found {found!r}, our encoder is {kind} with {value!r}")


def read_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes in the content of a `config.json`, under our names.

    Raises
    ------
    UserError
    """
    sizes: dict[str, Any] = {}
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
    return sizes


def read_eps(config: Mapping[str, Any], key: str, default: float) -> float:
    """A LayerNorm's epsilon in the content of a `config.json`.

    Raises
    ------
    UserError
    """
    eps = config.get(key, default)
    if not isinstance(eps, int | float) or not 0 < eps < 1:
        raise UserError(f"{key}: found {eps!r}, wanted a number between 0 and 1")
    return float(eps)


def read_dropout(config: Mapping[str, Any], key: str, default: float) -> float:
    """A probability in the content of a `config.json`.

    Raises
    ------
    UserError
    """
    dropout = config.get(key, default)
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise UserError(f"{key}: found {dropout!r}, wanted a number from 0 to below 1")
    return float(dropout)
