"""One file per command: `configure(parser)` declares its arguments, `run(args)` carries it out.

The table of commands is in `cmgems.cli`, which imports the module of the chosen command alone.
What is heavy (torch, lightning, numba, matplotlib) is imported inside the functions that `run`
calls, so that `cmgems COMMAND --help` answers at once.
"""

import textwrap
from collections.abc import Iterable
from typing import Any

from cmgems.config.options import get_value, iter_keys, spell


def split_options(arguments: Iterable[str], *names: str) -> tuple[dict[str, str], list[str]]:
    """Separate the options `name=value` of a command itself from its other arguments.

    Returns
    -------
    tuple
        Options by name, "" where one was not given; all other arguments.

    >>> split_options(["seed=1", "out=masks.html"], "region", "out")
    ({'region': '', 'out': 'masks.html'}, ['seed=1'])
    """
    options = dict.fromkeys(names, "")
    others = []
    for argument in arguments:
        name, sign, value = argument.partition("=")
        if sign and name in options:
            options[name] = value
        else:
            others.append(argument)
    return options, others


def describe_keys(schema: type) -> str:
    """All keys of a config file, with their defaults and meaning, from its dataclasses."""
    defaults = schema()
    lines = []
    for name, field in iter_keys(schema):
        text = field.metadata["text"]
        if field.metadata["choices"]:
            text += f" ({spell(field.metadata['choices'], ' | ')})"
        lines.append(f"  {name} = {format_default(get_value(defaults, name))}")
        lines += textwrap.wrap(text, 84, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return "\n".join(lines)


def format_default(value: Any) -> str:
    """A default as it is typed."""
    if isinstance(value, tuple):
        entries = (entry if isinstance(entry, str) else f"{entry:g}" for entry in value)
        return f"[{', '.join(entries)}]"
    return "null" if value is None else str(value) or "''"
