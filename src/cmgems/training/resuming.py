"""What a resumed run is checked for: its checkpoint is of this version, this run and this model."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmgems.config.schema import Experiment
from cmgems.difficulty.ngrams import NgramTable
from cmgems.difficulty.table import PmiTable
from cmgems.errors import UserError
from cmgems.genome.genome import Genome
from cmgems.models.weights import check_shapes
from cmgems.runs.folder import RunFolder
from cmgems.runs.identity import DIFFICULTY, GENOME, check_identity, experiment_identity
from cmgems.runs.io import read_checkpoint
from cmgems.training.module import Pretraining


def refuse_other_versions(folder: RunFolder) -> None:
    """Refuse to resume a run of another version before its config is read: keys change as well."""
    if folder.last_checkpoint:
        read_checkpoint(folder.last_checkpoint, map_location="meta")


def refuse_branch_without_checkpoint(experiment: Experiment, folder: RunFolder) -> None:
    """Refuse to begin a branch as if it were a run: it goes on from its parent's checkpoint."""
    if experiment.branch.run and not (experiment.run.resume and folder.last_checkpoint):
        raise UserError(
            f"branch.run: found {experiment.branch.run}, but {folder.path} holds no checkpoint of "
            "it to resume; a branch is begun by cmgems branch"
        )


def saved_step(last: Path | None, identity: Mapping[str, Any], module: Pretraining) -> int:
    """The optimizer steps that the run had taken when it was saved. A run that was killed before
    its first checkpoint starts over: -1 drops all lines of its logs.

    Raises
    ------
    UserError
        If the checkpoint is that of another run, or of another model.
    """
    if last is None:
        return -1
    content = read_checkpoint(last, map_location="meta").content
    check_identity(last, content, identity)
    check_shapes(last, content["state_dict"], module.state_dict(), "the experiment")
    return content["global_step"]


def run_identity(
    experiment: Experiment, genome: Genome, table: PmiTable | NgramTable
) -> dict[str, Any]:
    """What the checkpoints of a run say of it (`cmgems.runs.identity`)."""
    inputs = {GENOME: genome.sha256, DIFFICULTY: rank_sha256(table)}
    return experiment_identity(experiment) | inputs


def rank_sha256(table: PmiTable | NgramTable) -> str:
    """Digest of what a run's masks follow."""
    return hashlib.sha256(table.rank.astype("<i4").tobytes()).hexdigest()
