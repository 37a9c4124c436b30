"""Whose a checkpoint is: the experiment, the genome and the difficulty that its run was made of.

A digest says that a checkpoint is whole, and nothing of the run that it comes from. This is saved
in each (`cmgems.runs.io.SafeCheckpoints`), and compared before a checkpoint is used.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmgems.config.options import get_value, iter_keys, plain_value
from cmgems.config.schema import Experiment
from cmgems.errors import UserError
from cmgems.runs.folder import RESUMABLE_KEYS

IDENTITY_KEY = "cmgems_identity"
# Next to the keys of an experiment: what files that they name held.
GENOME, DIFFICULTY = "sha256 of the genome", "sha256 of the difficulty ranks"


def experiment_identity(experiment: Experiment) -> dict[str, Any]:
    """Dotted key -> value of all keys that a resumed run keeps, in plain containers."""
    return {
        key: plain_value(get_value(experiment, key))
        for key, _ in iter_keys(Experiment)
        if not key.startswith("run.") and key not in RESUMABLE_KEYS
    }


def check_identity(path: Path, content: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse the checkpoint of another run.

    Parameters
    ----------
    path : of the checkpoint
    content : of the checkpoint; one that was saved without an identity is not compared
    wanted : the identity of the run that is to use it, whole or in part

    Raises
    ------
    UserError
        With the first key in which the two differ.
    """
    saved = content.get(IDENTITY_KEY, {})
    for key, value in wanted.items():
        if key in saved and saved[key] != value:
            raise UserError(
                f"{path}: belongs to another run: found {key} {saved[key]!r}, wanted {value!r}"
            )
