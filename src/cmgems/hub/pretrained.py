"""A pretrained model from wherever it is stored, for everything that comes after pretraining.

`evaluate`, `export`, `embed` and `score` all read models here: in whatever form a model is stored,
they see a `Pretrained`.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cmgems.errors import UserError
from cmgems.hub.folder import is_hugging_face_folder, read_folder
from cmgems.models.build import build_model
from cmgems.models.encoder import MaskedLanguageModel
from cmgems.models.weights import check_finite, check_shapes
from cmgems.runs.experiment import load
from cmgems.runs.folder import BEST, LAST
from cmgems.runs.identity import check_identity, experiment_identity
from cmgems.runs.io import read_checkpoint
from cmgems.tokenization import Tokenization, build_tokenization
from cmgems.tokenization.bpe_file import TOKENIZER
from cmgems.utils.files import hash_file

SOURCES = "a run folder, a checkpoint in one, or a Hugging Face folder (config.json)"
PREFIX = "model."  # of the names of the model's weights in a checkpoint


class Pretrained(NamedTuple):
    """A model with its weights, on the CPU, in float32."""

    model: MaskedLanguageModel
    tokenization: Tokenization
    source: str  # the file that it was read from
    sha256: str  # of that file
    step: int | None  # optimizer steps it was trained for, where that is known
    has_head: bool = True  # that predicts masked tokens; an encoder is all that a classifier has
    init: str = ""  # `model.init` of its run, where that is known

    def require_head(self) -> None:
        """Refuse a model that cannot predict masked tokens.

        Raises
        ------
        UserError
        """
        if not self.has_head:
            raise UserError(
                f"{self.source}: found an encoder with another head, which embeds and can be "
                "trained further, wanted a model that predicts masked tokens"
            )


def load_pretrained(source: str | Path) -> Pretrained:
    """Read a model from a run folder (its best checkpoint), a checkpoint in one, or a Hugging Face
    folder (of DNABERT, DNABERT-2 or Nucleotide Transformer, or what `cmgems export` wrote).

    Raises
    ------
    UserError
        If there is nothing of the kind, the file is damaged, belongs to another run than the
        folder, or holds weights that are not finite, or an earlier version of cmgems made the
        checkpoint.
    """
    path = Path(source)
    if "://" in str(source):
        raise UserError(f"{source}: found an address, wanted {SOURCES}")
    if is_hugging_face_folder(path):
        folder = read_folder(path)
        sha256 = hash_file(folder.weights)
        return Pretrained(
            folder.model.eval(),
            folder.tokenization,
            str(folder.weights),
            sha256,
            step=None,
            has_head=folder.has_head,
        )
    if path.is_dir():
        path = path / "checkpoints" / BEST
        _check_best(path, path.with_name(LAST))
    if not path.is_file():
        raise UserError(f"{source}: no checkpoint there, wanted {SOURCES}")
    config = path.parent.parent / "config.yaml"
    if not config.is_file():
        raise UserError(f"{path}: no {config} with it, wanted a checkpoint in its run folder")
    return _from_run(path, config)


def _check_best(best: Path, last: Path) -> None:
    """Refuse a best checkpoint that is not the one of the run's state: the run was killed between
    the two files."""
    if not best.is_file() or not last.is_file():
        return
    callbacks = read_checkpoint(last, "meta").content["callbacks"]
    wanted = callbacks.get("RunCheckpoints", {}).get("best_step")
    found = read_checkpoint(best, "meta").content["global_step"]
    if found != wanted:
        raise UserError(
            f"{best}: found step {found}, wanted step {wanted}, the best one by {last.name}; "
            f"run.resume=true resumes the run and mends it"
        )


def _from_run(path: Path, config: Path) -> Pretrained:
    # First, since the experiment of a run that an earlier version made cannot be read either.
    checkpoint, sha256 = read_checkpoint(path)
    experiment = load(config)
    check_identity(path, checkpoint, experiment_identity(experiment))
    if experiment.data.tokenization == "bpe":  # the run's own, wherever they came from
        tokenizer = str(config.with_name(TOKENIZER))
        experiment = replace(experiment, data=replace(experiment.data, tokenizer=tokenizer))
    model = build_model(experiment)
    weights = {
        name.removeprefix(PREFIX): weight
        for name, weight in checkpoint["state_dict"].items()
        if name.startswith(PREFIX)
    }
    check_shapes(path, weights, model.state_dict(), config)
    check_finite(path, weights)
    model.load_state_dict(weights)
    return Pretrained(
        model.eval(),
        build_tokenization(experiment.data),
        str(path),
        sha256,
        checkpoint["global_step"],
        init=experiment.model.init,
    )
