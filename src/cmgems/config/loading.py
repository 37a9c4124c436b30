"""YAML files -> frozen dataclasses. All problems are told at once, each with file, line and key.

A file may begin with `extends: OTHER.yaml` (relative to itself); its own keys win. Overrides
`key.path=value` win over files. `${other.key}` refers to another key.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cmgems.config.schema import iter_keys
from cmgems.errors import UserError

T = TypeVar("T")
WANTED = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    dict: "`key: value` lines",  # as it stands: what is in it is checked by its reader
}


class Origin(NamedTuple):
    """Where a key was set: `file:line`, or the override as it was typed."""

    text: str


class Reading(NamedTuple):
    """What is known while values become a dataclass."""

    schema: type  # the whole, of which a section is built
    origins: dict[str, Origin]
    problems: list[str]  # added to


def load_as(
    schema: type[T],
    path: str | Path,
    overrides: Sequence[str] = (),
    rules: Callable[[T], Iterable[tuple[str, str]]] = lambda _: (),
) -> T:
    """Read and merge a file as the frozen dataclass `schema`, whose fields are options.

    `rules` yields (key, message) of each rule between keys that the result breaks.

    Raises
    ------
    UserError
        With one line for each problem.
    """
    layers, origins = [], {}
    for layer, where in [*_file_layers(Path(path), ()), *map(_override_layer, overrides)]:
        layers.append(layer)
        origins.update(where)
    values = _merged(layers, Path(path))
    problems: list[str] = []
    read_in = _build(schema, values, "", Reading(schema, origins, problems))
    if not problems:
        problems = [f"{_where(origins, key)}{text}" for key, text in rules(read_in)]
    if problems:
        raise UserError("\n".join(problems))
    return read_in


def dump(config: Any) -> str:
    """The dataclass as YAML that `load_as` reads back to the same values."""
    return OmegaConf.to_yaml(OmegaConf.create(_plain(asdict(config))))


def _file_layers(path: Path, seen: tuple[Path, ...]) -> Iterator[tuple[Any, dict[str, Origin]]]:
    """The files that `path` extends, the outermost first, and `path` itself."""
    if path in seen:
        raise UserError(f"{path}: extends itself through {seen[-1]}")
    node = _compose(path)
    where: dict[str, Origin] = {}
    _note_lines(node, "", path, where)
    content = OmegaConf.to_container(OmegaConf.load(path)) or {}
    base = content.pop("extends", None)
    if base is not None:
        if not isinstance(base, str):
            raise UserError(f"{path}: extends: found {base!r}, wanted the name of a file")
        yield from _file_layers(path.parent / base, (*seen, path))
    yield content, where


def _compose(path: Path) -> yaml.Node | None:
    """The syntax tree of a file, which knows its lines."""
    if not path.exists():
        raise UserError(f"{path}: no such file, wanted an experiment (YAML)")
    if not path.is_file():
        raise UserError(f"{path}: not a file, wanted an experiment (YAML)")
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if node is not None and not isinstance(node, yaml.MappingNode):
        raise UserError(f"{path}:{node.start_mark.line + 1}: wanted `key: value` lines")
    return node


def _note_lines(node: yaml.Node | None, prefix: str, path: Path, where: dict) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key_node, value_node in node.value:
        dotted = f"{prefix}{key_node.value}"
        line = f"{path}:{key_node.start_mark.line + 1}: "
        if where.get(dotted, Origin("")).text.startswith(f"{path}:"):
            raise UserError(f"{line}{dotted}: set a second time in this file")
        where[dotted] = Origin(line)
        _note_lines(value_node, f"{dotted}.", path, where)


def _override_layer(text: str) -> tuple[Any, dict[str, Origin]]:
    dotted, sign, _ = text.partition("=")
    if not sign or not dotted or dotted != dotted.strip():
        raise UserError(f"`{text}`: not an override, wanted key.path=value")
    try:
        parsed = OmegaConf.to_container(OmegaConf.from_dotlist([text]))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"`{text}`: {' '.join(str(error).split())}") from error
    return parsed, {dotted: Origin(f"`{text}`: ")}


def _merged(layers: list, path: Path) -> dict:
    """All layers over each other, with `${other.key}` resolved."""
    try:
        merged = OmegaConf.merge(*layers)
        raw = OmegaConf.to_yaml(merged)
        if "${" in raw and ":" in raw.split("${", 1)[1].split("}", 1)[0]:
            # `${oc.env:X}` would copy the environment into saved files.
            raise UserError(f"{path}: only `${{other.key}}` may stand in a value, no resolvers")
        return OmegaConf.to_container(merged, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}") from error


def _build(section: type, values: Any, prefix: str, reading: Reading) -> Any:
    """The frozen dataclass of a section; problems are noted and the default is taken."""

    def note(dotted: str, text: str) -> None:
        reading.problems.append(f"{_where(reading.origins, dotted)}{dotted}: {text}")

    if not isinstance(values, dict):
        note(prefix[:-1], f"found {values!r}, wanted a section with the keys {_names(section)}")
        return section()
    known = {part.name: part for part in fields(section)}
    chosen = {}
    for name, value in values.items():
        dotted = f"{prefix}{name}"
        if name not in known:
            note(dotted, f"no such key{_hint(dotted, reading.schema, section)}")
        elif is_dataclass(known[name].type):
            chosen[name] = _build(known[name].type, value, f"{dotted}.", reading)
        else:
            problem, chosen[name] = _convert(known[name], value)
            if problem:
                note(dotted, problem)
    return section(**chosen)


def _where(origins: dict[str, Origin], dotted: str) -> str:
    """The origin of a key, or of the section that it stands in."""
    while dotted and dotted not in origins:
        dotted = dotted.rpartition(".")[0]
    return origins[dotted].text if dotted else ""


def _names(section: type) -> str:
    return ", ".join(part.name for part in fields(section))


def _hint(dotted: str, schema: type, section: type) -> str:
    section_name, _, name = dotted.rpartition(".")
    for part in fields(section):
        if part.metadata.get("was") == name:
            return f"; it is called {section_name}{'.' if section_name else ''}{part.name} now"
    names = [name for name, _ in iter_keys(schema)]
    close = difflib.get_close_matches(dotted, names, n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else f", wanted one of {_names(section)}"


def _convert(part: Any, value: Any) -> tuple[str | None, Any]:
    """(problem, value of the key's type)"""
    if part.type not in WANTED:
        return _convert_list(part, value)
    if part.type is float and type(value) is int:
        value = float(value)
    if part.type is int and type(value) is float and value.is_integer():
        value = int(value)  # 1e6
    if type(value) is not part.type:
        quote = ", in quotes" if part.type is str else ""
        return f"found {value!r}, wanted {WANTED[part.type]}{quote}", value
    return _out_of_range(part.metadata, value), value


def _convert_list(part: Any, value: Any) -> tuple[str | None, tuple]:
    """The same for lists of names or of numbers; one entry may stand alone."""
    numbers = part.type == tuple[float, ...]
    kinds, wanted = ((int, float), "numbers") if numbers else ((str,), "names")
    entries = value if isinstance(value, list) else [value]
    if not all(type(entry) in kinds for entry in entries):
        return f"found {value!r}, wanted a list of {wanted}", ()
    return None, tuple(float(entry) if numbers else entry for entry in entries)


def _out_of_range(limits: Any, value: Any) -> str | None:
    low, high, choices = limits["low"], limits["high"], limits["choices"]
    if choices and value not in choices:
        return f"found {value!r}, wanted one of {', '.join(map(str, choices))}"
    if low is not None and not value >= low:
        return f"found {value!r}, wanted at least {low}"
    if high is not None and not value <= high:
        return f"found {value!r}, wanted at most {high}"
    return None


def _plain(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _plain(value) for name, value in values.items()}
    return list(values) if isinstance(values, tuple) else values
