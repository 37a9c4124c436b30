"""One file a command: `configure(parser)` declares its arguments, `run(args)` does it.

A command module imports at its top only what its `--help` needs; what is heavy
(torch, lightning, numba) is imported inside `run`, so that `cmgems --help` is instant.
The table of commands is in `cmgems.cli`.
"""

from collections.abc import Iterable


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
