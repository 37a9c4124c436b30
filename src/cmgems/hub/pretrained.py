"""A pretrained model from where it lies, for everything that comes after pretraining.

One door for `evaluate`, `export` and `embed`: whatever was written how, they see a `Pretrained`.
"""

from pathlib import Path
from typing import NamedTuple

import torch

from cmgems.errors import UserError
from cmgems.hub.folder import is_hugging_face_folder, read_folder
from cmgems.models.build import build_model
from cmgems.models.encoder import MaskedLanguageModel
from cmgems.runs.experiment import load
from cmgems.runs.io import check_digest
from cmgems.utils.files import hash_file

SOURCES = "a run folder, a checkpoint in one, or a Hugging Face folder (config.json)"
PREFIX = "model."  # of the model among the states of the LightningModule


class Pretrained(NamedTuple):
    """A model with its weights, on the CPU, in float32."""

    model: MaskedLanguageModel
    k: int
    source: str  # the file that it was read from
    sha256: str  # of that file
    step: int | None  # optimiser steps it was trained for, where that is known


def load_pretrained(source: str | Path) -> Pretrained:
    """Read a model from a run folder (its best checkpoint), a checkpoint in one, or a Hugging Face
    folder with a BERT on k-mers (DNABERT's, or what `cmgems export` wrote).

    Raises
    ------
    UserError
        If there is nothing of the kind, or the file is damaged.
    """
    path = Path(source)
    if "://" in str(source):
        raise UserError(f"{source}: found an address, wanted {SOURCES}")
    if is_hugging_face_folder(path):
        found = read_folder(path)
        weights = found.weights
        return Pretrained(found.model.eval(), found.k, str(weights), hash_file(weights), step=None)
    if path.is_dir():
        path = path / "checkpoints" / "best.ckpt"
    if not path.is_file():
        raise UserError(f"{source}: no checkpoint there, wanted {SOURCES}")
    config = path.parent.parent / "config.yaml"
    if not config.is_file():
        raise UserError(f"{path}: no {config} beside it, wanted a checkpoint in its run folder")
    return _from_run(path, config)


def _from_run(path: Path, config: Path) -> Pretrained:
    sha256 = check_digest(path)
    saved = torch.load(path, map_location="cpu", weights_only=True)
    experiment = load(config)
    model = build_model(experiment)
    states = {
        name.removeprefix(PREFIX): state
        for name, state in saved["state_dict"].items()
        if name.startswith(PREFIX)
    }
    model.load_state_dict(states)
    return Pretrained(model.eval(), experiment.data.k, str(path), sha256, saved["global_step"])
