"""Options: the documented fields of the frozen dataclasses that config files are read into."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import Field, asdict, field, fields, is_dataclass
from functools import reduce
from operator import or_
from types import UnionType
from typing import Any, cast, get_args


def option(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Iterable[str | int] = (),
    factory: Callable[[], Any] | None = None,
    was: str = "",
) -> Any:
    """A field of a config dataclass with its documentation and range.

    Parameters
    ----------
    default : Any
    text : str
        The help: a phrase, with its unit.
    low, high : float, optional
        Smallest and largest value, inclusive.
    choices : iterable
        The values that are accepted; empty: all.
    factory : callable, optional
        Makes the default, where that is a list.
    was : str
        The key's former name, which messages translate.
    """
    metadata = {"text": text, "low": low, "high": high, "choices": tuple(choices), "was": was}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def accepted_type(part: Field[Any]) -> tuple[Any, bool]:
    """The type of a key's values, and whether it may be null, which leaves it to another key."""
    alternatives = alternative_types(part.type)
    kind = reduce(or_, (kind for kind in alternatives if kind is not type(None)))
    return kind, type(None) in alternatives


def alternative_types(kind: Any) -> tuple[Any, ...]:
    """The types that a union unites; a type that is none, alone."""
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def spell(choices: Iterable[Any], separator: str) -> str:
    """Choices as they are typed."""
    return separator.join(str(x).lower() if isinstance(x, bool) else str(x) for x in choices)


def iter_keys(schema: type, prefix: str = "") -> Iterator[tuple[str, Field[Any]]]:
    """Yield (dotted key, dataclass field) of every key of a config."""
    for part in fields(schema):
        if is_dataclass(part.type):
            yield from iter_keys(cast(type, part.type), f"{prefix}{part.name}.")
        else:
            yield f"{prefix}{part.name}", part


def get_value(config: Any, dotted: str) -> Any:
    """The value at a dotted key."""
    for name in dotted.split("."):
        config = getattr(config, name)
    return config


def plain_value(value: Any) -> Any:
    """Dataclasses as dictionaries and tuples as lists, at any depth: what YAML and a checkpoint can
    hold."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {name: plain_value(part) for name, part in value.items()}
    return [plain_value(part) for part in value] if isinstance(value, tuple) else value
