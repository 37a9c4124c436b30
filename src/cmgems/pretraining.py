"""`cmgems pretrain`: an experiment, from its file to its results.

Read `pretrain` from top to bottom; each line is one stage of a run. Everything that can be wrong
with what the user gave is found out before the run folder is made.
"""

import hashlib
import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from cmgems.callbacks import (
    ComparisonLog,
    CurriculumCallback,
    MaskLog,
    OnlineProbe,
    PmiPlots,
    Profile,
    RunCheckpoints,
    SchedulePlot,
    StepProgress,
    StopOnSignal,
    Throughput,
    TrainingLog,
    signals_restored,
)
from cmgems.config.schema import Experiment
from cmgems.cost.device import training_device
from cmgems.curriculum.schedule import start_settings
from cmgems.data_modules.pretraining import GenomeDataModule
from cmgems.difficulty.pmi import table_for
from cmgems.difficulty.table import PmiTable
from cmgems.difficulty.table_io import read_table
from cmgems.genome.cache import genome_for
from cmgems.genome.genome import Genome
from cmgems.masking.masker import Masker
from cmgems.masking.rates import Budget
from cmgems.runs.folder import RunFolder, provenance
from cmgems.runs.io import SafeCheckpoints, ScalarFile, check_digest
from cmgems.runs.summary import render_summary
from cmgems.tokenization.kmers import token_ids
from cmgems.training.distributed import check_launch, strategy
from cmgems.training.module import COMMON_MASKS, Pretraining
from cmgems.training.references import base_references

CORPUS_WINDOWS = 1024  # of the training genome, on which the masks' budget is measured


def pretrain(experiment: Experiment, callbacks: Sequence[L.Callback] = ()) -> dict[str, Any]:
    """Run or resume an experiment; print its summary, return its results.

    Parameters
    ----------
    experiment : Experiment
    callbacks : Lightning callbacks of your own
        Called behind those of the run and before those that save it, so that what their
        `state_dict` gives lies in the checkpoints and a resumed run goes on with it.

    Raises
    ------
    UserError
        If something that the experiment names cannot be used.
    RunStopped
        If a signal stopped the run; its state is saved.
    RunFailed
        If the training diverged.
    """
    folder = RunFolder(Path(experiment.run.dir))
    if experiment.run.resume and folder.results.exists():
        print(render_summary(experiment, folder.read_results(), folder.path))
        return folder.read_results()
    silence_lightning()
    check_launch(experiment.train)
    device = training_device(experiment.train)
    genome = genome_for(experiment.data.genome)
    data = GenomeDataModule(experiment, genome)
    table = load_difficulty(experiment, genome)
    module = Pretraining(experiment, build_masker(experiment, data, table))
    is_first_rank = rank_zero_only.rank == 0
    references = base_references(genome, data, module.masker) if is_first_rank else None
    entropy = unigram_entropy(table, genome)
    parts = build_callbacks(experiment, folder, table, entropy, references, callbacks)
    with folder.acquire(experiment) if is_first_rank else nullcontext():
        trainer = build_trainer(experiment, device.type, folder, parts)
        with signals_restored():
            fit(trainer, module, data, folder)
        results = collect_results(parts) | describe_inputs(genome, table) | provenance()
        if is_first_rank:
            folder.write_results(results)
            print(render_summary(experiment, results, folder.path))
    return results


def silence_lightning() -> None:
    """Its notices on devices and stopping say nothing that our progress and summary do not."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Where Slurm is installed. A run starts its own ranks, also in a job (`cmgems sweep`).
    warnings.filterwarnings("ignore", message="The `srun` command is available on your system")


def load_difficulty(experiment: Experiment, genome: Genome) -> PmiTable:
    """The rank table: from the file that the experiment names, or from the genome."""
    pmi, k = experiment.pmi, experiment.data.k
    if pmi.table:
        return read_table(pmi.table, k)
    return table_for(genome, k, pmi.definition, pmi.min_count)


def build_masker(experiment: Experiment, data: GenomeDataModule, table: PmiTable) -> Masker:
    """A masker whose budget is measured on the training genome."""
    k = experiment.data.k
    codes = torch.from_numpy(data.corpus(CORPUS_WINDOWS, experiment.data.window_length))
    rank_V = torch.from_numpy(table.rank)
    masking, strategies = experiment.masking, experiment.curriculum.strategies
    paper, folder = masking.center_rate == "paper", data.genome.path / "rates"
    budget = Budget(token_ids(codes, k), rank_V, k, paper, folder)
    follow_loss = any(name == "loss_adaptive" or ":" in name for name in strategies)
    masker = Masker(k, rank_V, budget, follow_loss, start_settings(masking))
    masker.prepare({*COMMON_MASKS, *strategies})
    return masker


def unigram_entropy(table: PmiTable, genome: Genome) -> float:
    """Nats of the k-mers' own distribution."""
    counts = table.counts
    if (counts < 0).any():  # a table from elsewhere need not have counts
        counts = table_for(genome, table.k).counts
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


def build_callbacks(
    experiment: Experiment,
    folder: RunFolder,
    table: PmiTable,
    unigram: float,
    references: Callable[[], dict[str, float]] | None = None,
    extra: Sequence[L.Callback] = (),
) -> list[L.Callback]:
    """The callbacks of a run, in the order in which Lightning calls them.

    Parameters
    ----------
    unigram : entropy of the k-mers, nats
    references : what models without a network pay, see `base_references`
    extra : callbacks of the user's own
    """
    every = experiment.train.log_every_n_steps
    curriculum = CurriculumCallback(experiment, unigram)
    log = TrainingLog(curriculum, every, references)
    throughput = Throughput(every, experiment.data.k, log)
    return [
        curriculum,
        log,
        throughput,
        ComparisonLog(experiment, log, throughput),
        SchedulePlot(curriculum),
        MaskLog(),
        PmiPlots(table),
        OnlineProbe(experiment, throughput.paused),
        StepProgress(log, throughput),
        *([Profile(folder.path / "profile")] if experiment.train.profile else []),
        *extra,
        # Behind everything that has state to save.
        RunCheckpoints(folder.checkpoints),
        StopOnSignal(folder.checkpoints, agree_every=every),
    ]


C = TypeVar("C", bound=L.Callback)


def find_callback(kind: type[C], parts: Sequence[L.Callback]) -> C:
    """The callback of this class; Lightning takes no two of ours, which would save as one."""
    return next(part for part in parts if type(part) is kind)


def build_trainer(
    experiment: Experiment, accelerator: str, folder: RunFolder, parts: list[L.Callback]
) -> L.Trainer:
    train = experiment.train
    accumulate = train.global_batch_size // (train.micro_batch_size * train.devices * train.nodes)
    last = folder.last_checkpoint
    # A run that was killed before its first checkpoint begins again: -1 drops all its lines.
    step = saved_step(last) if last else -1
    loggers = [
        TensorBoardLogger(folder.path, name="", version="", purge_step=step + 1),
        ScalarFile(folder.path / "metrics.csv", resume_step=step),
    ]
    return L.Trainer(
        accelerator=accelerator,
        devices=train.devices,
        num_nodes=train.nodes,
        strategy=strategy(train),
        max_steps=train.max_steps,
        max_epochs=-1,
        accumulate_grad_batches=accumulate,
        val_check_interval=experiment.validation.every_n_steps * accumulate,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        callbacks=parts,
        logger=loggers,
        plugins=[SafeCheckpoints()],
        log_every_n_steps=1,  # our own callbacks log
        enable_checkpointing=False,
        enable_model_summary=False,
    )


def saved_step(checkpoint: Path) -> int:
    check_digest(checkpoint)
    return torch.load(checkpoint, map_location="meta", weights_only=True)["global_step"]


def fit(trainer: L.Trainer, module: Pretraining, data: GenomeDataModule, folder: RunFolder) -> None:
    """Validate the untrained model, then train to the end; or go on from the last checkpoint."""
    last = folder.last_checkpoint
    with warnings.catch_warnings():
        # The loader copies bytes out of a memory map; worker processes would only be slower.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # It is: a batch is a function of its number, and the loader starts at the right one.
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
        # of torch, to Lightning
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        if last is None:
            trainer.validate(module, datamodule=data, verbose=False, weights_only=True)
        trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)


def collect_results(parts: list[L.Callback]) -> dict[str, Any]:
    """The final figures of a run, over all its sittings."""
    log, throughput = find_callback(TrainingLog, parts), find_callback(Throughput, parts)
    curriculum = find_callback(CurriculumCallback, parts)
    return {
        "initial": log.initial,
        "final": log.final,
        "masked_fraction": log.masked_fractions(),
        "reference": log.reference(),
        "switches": curriculum.switches,
        "switched_at": curriculum.switched_at,
        "best_step": find_callback(RunCheckpoints, parts).best_step,
        "probe": find_callback(OnlineProbe, parts).scores,
        "tokens": throughput.tokens,
        "training_seconds": throughput.seconds,
        "tokens_per_second": throughput.tokens / max(throughput.seconds, 1e-9),
        "speed": throughput.results(),
    }


def describe_inputs(genome: Genome, table: PmiTable) -> dict[str, Any]:
    return {
        "genome": {"name": genome.name, "sha256": genome.sha256, "bases": len(genome.codes)},
        "pmi": {
            "definition": table.definition,
            "k": table.k,
            "rank_sha256": hashlib.sha256(table.rank.astype("<i4").tobytes()).hexdigest(),
        },
    }
