"""Strategies by name: those that are registered, and custom ones as `package.module:Name`.

A custom strategy is a function `StrategyInput -> mask_BK`, or a class whose instances are such
functions:

    # my_masks.py, in the folder that the command is started in or anywhere Python finds it
    from cmgems.masking.ops import dilate

    def pairs(tokens):
        return dilate(tokens.centers_BK, (0, 1)) & tokens.maskable_BK

    # in the experiment
    curriculum: {schedule: constant, strategies: ["my_masks:pairs"]}

Its budget is solved like that of any other. `cmgems check-masking my_masks:pairs` says whether it
keeps to the rules.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from cmgems.errors import UserError
from cmgems.masking.strategies import STRATEGIES, Strategy
from cmgems.masking.types import StrategyInput

ANY_ERROR = (Exception, SystemExit)  # that a user's code can raise


def strategy(name: str) -> Strategy:
    """The strategy of a name.

    Raises
    ------
    UserError
        If no strategy has the name, or the module or what is in it cannot be used.
    """
    if ":" not in name:
        if name not in STRATEGIES:
            raise UserError(
                f"strategy {name!r} is unknown, wanted package.module:Name or one of "
                f"{', '.join(STRATEGIES)}"
            )
        return STRATEGIES[name]
    module_name, _, attribute = name.partition(":")
    named = getattr(_module(name, module_name), attribute, None)
    if named is None:
        raise UserError(f"strategy {name}: module {module_name} has no {attribute!r}")
    if isinstance(named, type):
        try:
            named = named()
        except ANY_ERROR as error:
            raise UserError(f"strategy {name}: the class cannot be made: {error}") from error
    if not callable(named):
        raise UserError(f"strategy {name}: found {type(named).__name__}, wanted a function")
    return CustomStrategy(name, named)


class CustomStrategy:
    """A user's strategy: what it raises, and what is no mask, is reported in one line.

    Parameters
    ----------
    name : as in the experiment
    function : StrategyInput -> mask_BK
    """

    def __init__(self, name: str, function: Strategy):
        self.name, self.function = name, function

    def __call__(self, tokens: StrategyInput) -> Tensor:
        """The function's mask.

        Raises
        ------
        UserError
            If it raises, or returns something else than a bool tensor of the shape of the tokens.
        """
        try:
            mask_BK = self.function(tokens)
        except ANY_ERROR as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"strategy {self.name}: raised {type(error).__name__}: {reason}"
            ) from error
        wanted = f"wanted torch.bool {list(tokens.ids_BK.shape)}"
        if not isinstance(mask_BK, Tensor):
            raise UserError(f"strategy {self.name}: returned {type(mask_BK).__name__}, {wanted}")
        if mask_BK.dtype != torch.bool or mask_BK.shape != tokens.ids_BK.shape:
            raise UserError(
                f"strategy {self.name}: returned {mask_BK.dtype} {list(mask_BK.shape)}, {wanted}"
            )
        return mask_BK


def _module(name: str, module_name: str) -> ModuleType:
    folder = str(Path.cwd())
    sys.path.append(folder)  # last: nothing installed is hidden by a file of the same name
    try:
        return importlib.import_module(module_name)
    except ANY_ERROR as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"strategy {name}: cannot import {module_name}: {reason}") from error
    finally:
        sys.path.remove(folder)
