"""Checks of weights before a model takes them."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from cmgems.errors import UserError


def check_shapes(
    path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], by: str | Path
) -> None:
    """Refuse weights of another model.

    Parameters
    ----------
    path : of the file that the weights are from
    found, wanted : tensors by name, which may be on `meta`
    by : what describes the wanted model, for the message

    Raises
    ------
    UserError
        With the first name that only one of them has, or that has another shape.
    """
    for name in {**wanted, **found}:
        shapes = [
            f"the shape {list(tensors[name].shape)}" if name in tensors else "no such weight"
            for tensors in (found, wanted)
        ]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{path}: {name}: found {shapes[0]}, wanted {shapes[1]} by {by}: these are weights "
                f"of another model"
            )


def check_finite(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights of a model that has diverged: all that it says would be nan.

    Raises
    ------
    UserError
        With the first name that holds such values.
    """
    for name, weight in weights.items():
        count = int((~weight.isfinite()).sum())
        if count:
            raise UserError(
                f"{path}: {name}: found {count:,} of {weight.numel():,} values not finite, wanted "
                f"the weights of a model that has not diverged"
            )
