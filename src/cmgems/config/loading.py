"""YAML files -> frozen dataclasses. All problems are reported at once, with file, line and key.

A file may begin with `extends: OTHER.yaml` (relative to itself); its own keys win. Overrides
`key.path=value` win over files. `${other.key}` refers to another key.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast, get_args

import yaml
from omegaconf import OmegaConf

from cmgems.config.options import accepted_type, alternative_types, iter_keys, plain_value, spell
from cmgems.config.yaml_text import compose, read_values, resolve
from cmgems.errors import UserError

T = TypeVar("T")
MAX_FILES = 32  # that extend one another
WANTED = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    dict: "`key: value` lines",  # not parsed further: its reader checks what is in it
}

# The entries of lists: what is accepted as one, and their name in a message.
LISTS: dict[type, tuple[set[type], str]] = {
    str: ({str, int}, "names"),  # a number may be one: contig 20
    int: ({int}, "whole numbers"),
    float: ({int, float}, "numbers"),
}

# Where each dotted key was set, as messages begin: `file:line: `, or the override as it was typed.
Origins = dict[str, str]


class ParseContext(NamedTuple):
    """What is known while values become a dataclass."""

    schema: type  # the dataclass of the whole file, whose sections are built one by one
    origins: Origins
    helps: dict[str, str]  # of keys that were set on the command line, as messages end
    problems: list[str]  # appended to


def load_as(
    schema: type[T],
    path: str | Path,
    overrides: Sequence[str] = (),
    rules: Callable[[T], Iterable[tuple[str, str]]] = lambda _: (),
) -> T:
    """Read and merge a file as a frozen dataclass.

    Parameters
    ----------
    schema : type
        A frozen dataclass whose fields are `cmgems.config.options.option`s or sections of them.
    path : str or Path
    overrides : sequence of str
        `key.path=value`, which win over the file.
    rules : callable
        Yields (key, message) for each rule between keys that the result breaks.

    Raises
    ------
    UserError
        With one line per problem.
    """
    layers: list[dict[str, Any]] = []
    origins: Origins = {}
    for layer, layer_origins in [*_file_layers(Path(path), ()), *map(_override_layer, overrides)]:
        layers.append(layer)
        origins.update(layer_origins)
    values = resolve(_merge(layers), str(path))
    problems: list[str] = []
    helps = _helps_of_overrides(schema, origins)
    config: T = _build(schema, values, "", ParseContext(schema, origins, helps, problems))
    if not problems:
        problems = [
            f"{_origin(origins, key)}{text}{helps.get(key, '')}" for key, text in rules(config)
        ]
    if problems:
        raise UserError("\n".join(problems))
    return config


def dump(config: Any) -> str:
    """The dataclass as YAML that `load_as` reads back to the same values."""
    return OmegaConf.to_yaml(OmegaConf.create(plain_value(config)))


def _file_layers(path: Path, seen: tuple[Path, ...]) -> Iterator[tuple[dict[str, Any], Origins]]:
    """Values and origins of the files that `path` extends, the outermost first, and of `path`."""
    if path.resolve() in seen:
        raise UserError(f"{path}: extends itself through {seen[-1]}")
    if len(seen) == MAX_FILES:
        raise UserError(f"{path}: found more than {MAX_FILES} files that extend one another")
    text = _read_text(path)
    node = compose(text, str(path))
    origins: Origins = {}
    _record_lines(node, "", path, origins)
    content = read_values(text, str(path))
    base = content.pop("extends", None)
    if base is not None:
        if not isinstance(base, str):
            raise UserError(f"{path}: extends: found {base!r}, wanted the name of a file")
        yield from _file_layers(path.parent / base, (*seen, path.resolve()))
    yield content, origins


def _read_text(path: Path) -> str:
    """The text of a file.

    Raises
    ------
    UserError
        If there is none, or it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file, wanted an experiment (YAML)") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: not a file, wanted an experiment (YAML)") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not YAML: {error}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"{path}: cannot be read: {error}") from error


def _record_lines(node: yaml.Node | None, prefix: str, path: Path, origins: Origins) -> None:
    """Add the line of each key to `origins`."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key_node, value_node in node.value:
        dotted = f"{prefix}{key_node.value}"
        line = f"{path}:{key_node.start_mark.line + 1}: "
        if dotted in origins:
            raise UserError(f"{line}{dotted}: set a second time in this file")
        origins[dotted] = line
        _record_lines(value_node, f"{dotted}.", path, origins)


def _override_layer(text: str) -> tuple[dict[str, Any], Origins]:
    """Value and origin of an override."""
    dotted, sign, value = text.partition("=")
    if not sign or not dotted or dotted != dotted.strip():
        raise UserError(f"`{text}`: not an override, wanted key.path=value")
    *sections, name = dotted.split(".")
    line = f"value: {value}"  # as it would stand in a file
    node = compose(line, f"`{text}`")
    assert node is not None
    if len(node.value) > 1:
        raise UserError(f"`{text}`: found several lines, wanted key.path=value")
    values: dict[str, Any] = {name: read_values(line, f"`{text}`")["value"]}
    for section in reversed(sections):
        values = {section: values}
    return values, {dotted: f"`{text}`: "}


def _merge(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """The values of all layers, of which later ones win."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            known = merged.get(key)
            if isinstance(known, dict) and isinstance(value, dict):
                value = _merge([known, value])
            merged[key] = value
    return merged


def _build(section: type, values: Any, prefix: str, context: ParseContext) -> Any:
    """The frozen dataclass of a section. Problems are recorded, the default stands in for them."""

    def record(dotted: str, text: str) -> None:
        context.problems.append(f"{_origin(context.origins, dotted)}{dotted}: {text}")

    if not isinstance(values, dict):
        record(prefix[:-1], f"found {values!r}, wanted a section with the keys {_names(section)}")
        return section()
    known = {field.name: field for field in fields(section)}
    arguments = {}
    for name, value in values.items():
        dotted = f"{prefix}{name}"
        if name not in known:
            record(dotted, f"no such key{_hint(dotted, context.schema, section)}")
        elif is_dataclass(subsection := known[name].type):
            arguments[name] = _build(cast(type, subsection), value, f"{dotted}.", context)
        elif entry := _section_of_list(known[name]):
            entries = value if isinstance(value, list) else [value]
            arguments[name] = tuple(
                _build(entry, part, f"{dotted}.{number}.", context)
                for number, part in enumerate(entries, start=1)
            )
        else:
            problem, arguments[name] = _convert(known[name], value)
            if problem:
                record(dotted, problem + context.helps.get(dotted, ""))
    return section(**arguments)


def _section_of_list(field: Field[Any]) -> type | None:
    """The dataclass of the entries of a key that lists sections, else None."""
    kinds = get_args(field.type)
    return cast(type, kinds[0]) if kinds and is_dataclass(kinds[0]) else None


def _origin(origins: Origins, dotted: str) -> str:
    """The origin of a key, or else of the innermost section around it that has one."""
    while dotted and dotted not in origins:
        dotted = dotted.rpartition(".")[0]
    return origins[dotted] if dotted else ""


def _helps_of_overrides(schema: type, origins: Origins) -> dict[str, str]:
    """The help of each key that an override sets: who typed it has no file with comments."""
    return {
        key: f" ({field.metadata['text']})"
        for key, field in iter_keys(schema)
        if origins.get(key, "").startswith(f"`{key}=")
    }


def _names(section: type) -> str:
    """The names of a section's keys, for a message."""
    return ", ".join(field.name for field in fields(section))


def _hint(dotted: str, schema: type, section: type) -> str:
    """What somebody who wrote an unknown key may have meant."""
    section_name, _, name = dotted.rpartition(".")
    for field in fields(section):
        if field.metadata.get("was") == name:
            return f"; it is called {section_name}{'.' if section_name else ''}{field.name} now"
    texts = {name: field.metadata["text"] for name, field in iter_keys(schema)}
    if section_name not in {name.rpartition(".")[0] for name in texts}:  # an entry of a list
        texts = {
            f"{section_name}.{key}": field.metadata["text"] for key, field in iter_keys(section)
        }
    close = difflib.get_close_matches(dotted, texts, n=1, cutoff=0.75)
    if close:
        return f"; did you mean {close[0]}? ({texts[close[0]]})"
    return f", wanted one of {_names(section)}"


def _convert(field: Field[Any], value: Any) -> tuple[str | None, Any]:
    """(problem or None, value of the key's type)"""
    kind, may_be_null = accepted_type(field)
    if value is None and may_be_null:
        return None, None
    kinds = alternative_types(kind)
    if kinds[0] not in WANTED:
        return _convert_list(get_args(kind)[0], field, value)
    if int not in kinds and float in kinds and type(value) is int:
        value = float(value)
    if int in kinds and type(value) is float and value.is_integer():
        value = int(value)  # 1e6
    if type(value) not in kinds:
        return f"found {value!r}, wanted {_wanted(kinds, field.metadata['choices'])}", value
    return _check_range(field.metadata, value), value


def _wanted(kinds: tuple[type, ...], choices: tuple[Any, ...]) -> str:
    """What a key takes, for a message on a value of another type."""
    if len(kinds) > 1 and choices:
        return f"one of {spell(choices, ', ')}"
    quote = ", in quotes" if kinds == (str,) else ""
    return WANTED[kinds[-1]] + quote  # of `int | float`, the wider one


def _convert_list(kind: type, field: Field[Any], value: Any) -> tuple[str | None, tuple[Any, ...]]:
    """The same for lists of a kind; a single entry needs no brackets."""
    accepted, wanted = LISTS[kind]
    entries = value if isinstance(value, list) else [value]
    if not all(type(entry) in accepted for entry in entries):
        return f"found {value!r}, wanted a list of {wanted}", ()
    entries = [kind(entry) for entry in entries]
    problems = (_check_range(field.metadata, entry) for entry in entries)
    return next(filter(None, problems), None), tuple(entries)


def _check_range(limits: Mapping[str, Any], value: Any) -> str | None:
    """What is wrong with a value, or None."""
    low, high, choices = limits["low"], limits["high"], limits["choices"]
    if choices and value not in choices:
        return f"found {value!r}, wanted one of {spell(choices, ', ')}"
    if low is not None and not value >= low:
        return f"found {value!r}, wanted at least {low}"
    if high is not None and not value <= high:
        return f"found {value!r}, wanted at most {high}"
    return None
