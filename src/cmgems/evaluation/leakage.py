"""Test sequences that were seen before: in training, or in the DNA of pretraining."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmgems.data_modules.pretraining import GenomeDataModule
from cmgems.errors import UserError
from cmgems.evaluation.config import Evaluation
from cmgems.genome.joined import load_pretraining_genome
from cmgems.genome.spans import Spans
from cmgems.runs.experiment import load
from cmgems.tasks import splits
from cmgems.tasks.audit import Audit, audit_splits, count_pretraining_overlap
from cmgems.tasks.task import Task


class PretrainingDNA(NamedTuple):
    """What a run was pretrained on."""

    codes: np.ndarray  # `Genome.codes`
    spans: Spans


def audit_task(evaluation: Evaluation, task: Task) -> Audit | None:
    """Duplicates between train, test and the DNA of pretraining; None with check_leakage off."""
    if not evaluation.check_leakage:
        return None
    root = evaluation.tasks.root
    test = splits.read_split(task, "test", root)
    train = splits.read_published_examples(task, root) if "train" in task.splits else test
    audit = audit_splits(train, test, task.classes)
    for name in evaluation.models:
        dna = pretraining_dna(Path(name))
        if dna:
            return count_pretraining_overlap(audit, dna.codes, dna.spans, test)
    return audit


def pretraining_dna(model: Path) -> PretrainingDNA | None:
    """What a run folder, or a checkpoint in one, was pretrained on; None for any other model.

    Raises
    ------
    UserError
        If its genome is not there: paths in a run's experiment are relative to where it ran.
    """
    run = model if model.is_dir() else model.parent.parent
    if not (run / "config.yaml").is_file():
        return None
    experiment = load(run / "config.yaml")
    try:
        genome = load_pretraining_genome(experiment.data)
    except UserError as error:
        raise UserError(
            f"check_leakage: the DNA of {model} cannot be read: {error}; or check_leakage=false"
        ) from error
    return PretrainingDNA(genome.codes, GenomeDataModule(experiment, genome).train_spans)
