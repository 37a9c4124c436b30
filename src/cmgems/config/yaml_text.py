"""YAML text -> plain dictionaries, lists, text and numbers; whatever else it holds is refused.

Files come from colleagues and the internet, so nothing in one may run code, copy the environment,
or take more than a moment to read: no tags, no resolvers, and bounds on size, depth and aliases.
"""

import re
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cmgems.errors import UserError

# As OmegaConf: the two differ in what they read, such as `[a/?,b]`.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 32
MAX_VALUES = 100_000  # after its aliases are followed
MAX_WHOLE_NUMBER = 2**63 - 1
REFERENCE = re.compile(r"\$\{\.*[A-Za-z_][\w.]*\}")


def compose(text: str, name: str) -> yaml.MappingNode | None:
    """The syntax tree of a text of `key: value` lines, which knows its lines; None: it is empty.

    Parameters
    ----------
    text : str
    name : str
        What messages begin with: the file.

    Raises
    ------
    UserError
        If it is not YAML, not `key: value` lines, too large or too deep, or has tags, resolvers or
        keys that are not text.
    """
    if len(text) > MAX_CHARACTERS:
        raise UserError(
            f"{name}: found {len(text):,} characters, wanted at most {MAX_CHARACTERS:,}"
        )
    try:
        _check_events(text, name)
        node = yaml.compose(text, Loader=LOADER)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-99-99
        raise UserError(f"{name}: not YAML: {' '.join(str(error).split())}") from error
    if node is not None and not isinstance(node, yaml.MappingNode):
        raise UserError(f"{name}:{node.start_mark.line + 1}: wanted `key: value` lines")
    if node is not None:
        _count_values(node, name, {}, ())
    return node


def read_values(text: str, name: str) -> dict[str, Any]:
    """The values of a text that `compose` accepts, references `${other.key}` unresolved.

    Raises
    ------
    UserError
        If a value is none that a config can hold.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.create(text)) or {}
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, OverflowError) as error:
        raise UserError(f"{name}: {_first_line(error)}") from error
    assert isinstance(content, dict)  # `compose` refuses everything else
    _check_values(content, name)
    return {str(key): value for key, value in content.items()}


def resolve(values: dict[str, Any], name: str) -> dict[str, Any]:
    """The values with each `${other.key}` replaced by the value of that key.

    Raises
    ------
    UserError
        If there is no such key, or a value refers to itself.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.create(values), resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        circle = "a value refers to itself"
        message = circle if isinstance(error, RecursionError) else _first_line(error)
        raise UserError(f"{name}: {message}") from error
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _check_values(values: Any, name: str) -> None:
    """Refuse numbers of more than 64 bits, and values of no type that a config has."""
    for value in _scalars(values):
        if isinstance(value, int) and abs(value) > MAX_WHOLE_NUMBER:
            raise UserError(
                f"{name}: found a whole number of more than 64 bits, wanted a smaller one"
            )
        if not isinstance(value, str | int | float | bool | None):
            raise UserError(f"{name}: found {value!r}, wanted text, a number, true, false or null")


def _scalars(values: Any) -> Iterator[Any]:
    """Keys and values, however deep."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield key
            yield from _scalars(value)
    elif isinstance(values, list):
        for value in values:
            yield from _scalars(value)
    else:
        yield values


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _check_events(text: str, name: str) -> None:
    """Refuse tags, resolvers, and depths that the recursive parser must not see."""
    depth = 0
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                _refuse(name, event, f"found more than {MAX_DEPTH} levels, wanted fewer")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if isinstance(event, yaml.ScalarEvent) and "${" in REFERENCE.sub("", event.value):
            # `${oc.env:X}` would copy the environment into saved files.
            _refuse(name, event, "only `${other.key}` may stand in a value, no resolvers")
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            _refuse(name, event, f"found the tag {tag!r}, wanted a value without a tag")


def _refuse(name: str, place: yaml.Event | yaml.Node, message: str) -> NoReturn:
    raise UserError(f"{name}:{place.start_mark.line + 1}: {message}")


def _count_values(
    node: yaml.Node, name: str, counts: dict[int, int], around: tuple[yaml.Node, ...]
) -> int:
    """The values below a node, those behind an alias each time that it stands there.

    `counts` has the nodes that were counted before, so that aliases of aliases cost no time.
    """
    if any(node is other for other in around):
        _refuse(name, node, "a value holds itself through an alias")
    if id(node) in counts:
        return counts[id(node)]
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:null":
                _refuse(name, key, "found a key that is not text, wanted `key: value` lines")
            children.append(value)
    count = 1 + sum(_count_values(child, name, counts, (*around, node)) for child in children)
    if count > MAX_VALUES:
        _refuse(name, node, f"found more than {MAX_VALUES:,} values, wanted fewer")
    counts[id(node)] = count
    return count
