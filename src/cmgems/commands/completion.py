"""What a shell completes: commands, options, names of experiments, keys and their choices.

The package argcomplete (extra `completion`) asks this program, with the line in its environment.
"""

import argparse
import os
from functools import partial

from cmgems.config.options import iter_keys, spell
from cmgems.config.schema import Experiment
from cmgems.config.shipped import shipped_experiments


def typed_command() -> str | None:
    """The command on the line that is being completed."""
    words = os.environ.get("COMP_LINE", "").split()
    return next((word for word in words[1:] if not word.startswith("-")), None)


def answer(parser: argparse.ArgumentParser, command: str | None) -> None:
    """Print the completions for argcomplete, and end the process."""
    import argcomplete  # optional; its presence is what the environment says

    for action in _arguments(parser, command):
        if action.metavar in ("EXPERIMENT", "SWEEP") or action.dest == "name":
            action.completer = partial(_names, command)  # type: ignore[attr-defined]
        elif action.metavar in ("key.path=value", "key=value"):
            action.completer = partial(_overrides, command)  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser)


def _arguments(parser: argparse.ArgumentParser, command: str | None) -> list[argparse.Action]:
    """The arguments of a command, those of its own commands included."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                if command is None or name == command or parser.prog.endswith(command):
                    found += _arguments(child, command)
        else:
            found.append(action)
    return found


def _names(command: str | None, prefix: str, **_: object) -> list[str]:
    """Names of the experiments that a command takes, or of what `cmgems data` fetches."""
    if command == "data":
        from cmgems.downloads.registry import datasets

        contigs = (f"{name}/{contig}" for name, d in datasets().items() for contig in d.contigs)
        return [name for name in (*datasets(), *contigs) if name.startswith(prefix)]
    kind = {"evaluate": "finetune", "sweep": "sweep"}.get(command or "", "pretrain")
    shipped = shipped_experiments()
    if command == "experiments":
        return [name for name in shipped if name.startswith(prefix)]
    names = (name.partition("/")[2] for name in shipped if name.startswith(f"{kind}/"))
    return [name for name in names if name.startswith(prefix)]


def _overrides(command: str | None, prefix: str, **_: object) -> list[str]:
    """Keys with their `=`; behind it, what the key takes where that is a choice."""
    typed, sign, _value = prefix.partition("=")
    found = []
    for key, field in iter_keys(_schema(command)):
        choices = field.metadata["choices"]
        if sign and key == typed:
            found = [f"{key}={spell([choice], '')}" for choice in choices]
        elif not sign:
            found.append(f"{key}=")
    return [text for text in found if text.startswith(prefix)]


def _schema(command: str | None) -> type:
    """The keys that a command takes."""
    if command == "evaluate":
        from cmgems.evaluation.config import Evaluation

        return Evaluation
    if command == "sweep":
        from cmgems.sweeps.config import Sweep

        return Sweep
    return Experiment
