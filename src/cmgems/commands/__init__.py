"""One file a command: `configure(parser)` declares its arguments, `run(args)` does it.

A command module imports at its top only what its `--help` needs; what is heavy
(torch, lightning, numba) is imported inside `run`, so that `cmgems --help` is instant.
The table of commands is in `cmgems.cli`.
"""

import textwrap
from collections.abc import Iterable
from typing import Any

from cmgems.config.schema import get_value, iter_keys


def own_words(words: Iterable[str], *names: str) -> tuple[dict[str, str], list[str]]:
    """({name: value or ""} of the words `name=value` that a command keeps, all other words)."""
    own, others = dict.fromkeys(names, ""), []
    for word in words:
        name, sign, value = word.partition("=")
        if sign and name in own:
            own[name] = value
        else:
            others.append(word)
    return own, others


def describe_keys(schema: type) -> str:
    """All keys of a config file, with their defaults and meaning, from its dataclasses."""
    defaults, lines = schema(), []
    for name, part in iter_keys(schema):
        text = part.metadata["text"]
        if part.metadata["choices"]:
            text += f" ({' | '.join(map(str, part.metadata['choices']))})"
        lines.append(f"  {name} = {_shown(get_value(defaults, name))}")
        lines += textwrap.wrap(text, 84, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return "\n".join(lines)


def _shown(value: Any) -> str:
    """A default as it is typed."""
    if isinstance(value, tuple):
        entries = (entry if isinstance(entry, str) else f"{entry:g}" for entry in value)
        return f"[{', '.join(entries)}]"
    return str(value) or "''"
