"""Strategies by name: those of the catalogue, and custom ones as `package.module:Name`.

A custom strategy is a function `StrategyInput -> mask_BT`, or a class whose instances are such
functions:

    # my_masks.py, in the folder that the command is started in or anywhere Python finds it
    from cmgems.masking.ops import dilate

    def pairs(tokens):
        return dilate(tokens.centres_BT, (0, 1)) & tokens.maskable_BT

    # in the experiment
    curriculum: {schedule: constant, strategies: ["my_masks:pairs"]}

Its budget is solved like that of any other. `cmgems check-masking my_masks:pairs` says whether it
keeps to the rules.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType

from cmgems.errors import UserError
from cmgems.masking.strategies import STRATEGIES, Strategy


def strategy(name: str) -> Strategy:
    """The strategy of a name.

    Raises
    ------
    UserError
        If the catalogue has no such name, or the module or what is in it cannot be used.
    """
    if ":" not in name:
        if name not in STRATEGIES:
            raise UserError(
                f"strategy {name!r} is unknown, wanted package.module:Name or one of "
                f"{', '.join(STRATEGIES)}"
            )
        return STRATEGIES[name]
    module_name, _, attribute = name.partition(":")
    found = getattr(_module(name, module_name), attribute, None)
    if found is None:
        raise UserError(f"strategy {name}: module {module_name} has no {attribute!r}")
    if isinstance(found, type):
        try:
            found = found()
        except TypeError as error:
            raise UserError(f"strategy {name}: the class cannot be made: {error}") from error
    if not callable(found):
        raise UserError(f"strategy {name}: found {type(found).__name__}, wanted a function")
    return found


def _module(name: str, module_name: str) -> ModuleType:
    here = str(Path.cwd())
    sys.path.append(here)  # last: nothing installed is hidden by a file of the same name
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(f"strategy {name}: cannot import {module_name}: {error}") from error
    finally:
        sys.path.remove(here)
