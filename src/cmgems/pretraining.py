"""`cmgems pretrain`: an experiment, from its file to its results.

Read `pretrain` from top to bottom: each line is one stage of a run, and the functions below it come
in the order in which it calls them. Everything that can be wrong with what the user gave is found
out before the run folder is made.
"""

import logging
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
from lightning.pytorch.utilities import rank_zero_only

from cmgems.callbacks import (
    ComparisonLog,
    CurriculumCallback,
    FinalEvaluation,
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
)
from cmgems.config.schema import Experiment
from cmgems.cost.device import training_device
from cmgems.data_modules.pretraining import GenomeDataModule
from cmgems.difficulty.ngrams import NgramTable
from cmgems.difficulty.table import PmiTable
from cmgems.errors import UserError
from cmgems.genome.genome import Genome
from cmgems.genome.joined import load_pretraining_genome
from cmgems.hub.initial_weights import take_initial_weights
from cmgems.runs.folder import RunFolder, provenance
from cmgems.runs.io import SafeCheckpoints
from cmgems.runs.loggers import build_loggers, check_loggers
from cmgems.runs.step_rules import steps_to_keep
from cmgems.runs.summary import render_summary
from cmgems.tokenization import BytePairs, Tokenization, build_tokenization
from cmgems.tokenization.bpe_file import TOKENIZER, read_byte_pairs
from cmgems.tokenization.hf import fast_tokenizer
from cmgems.training.distributed import check_launch, leave_store_of_torchrun, strategy
from cmgems.training.masks import build_masker, load_difficulty, unigram_entropy
from cmgems.training.module import Pretraining
from cmgems.training.ranks import lost_connections_reported, watch_first_rank
from cmgems.training.references import base_references
from cmgems.training.resuming import (
    rank_sha256,
    refuse_branch_without_checkpoint,
    refuse_other_versions,
    run_identity,
    saved_step,
)
from cmgems.utils.escapes import printable
from cmgems.utils.files import atomic_write
from cmgems.utils.outputs import amid_run, check_output_folder


def pretrain(experiment: Experiment, callbacks: Sequence[L.Callback] = ()) -> dict[str, Any]:
    """Run or resume an experiment; print its summary, return its results.

    Parameters
    ----------
    experiment : Experiment
    callbacks : sequence of Lightning callbacks
        Custom callbacks. They are called after those of the run and before those that save it, so
        that what their `state_dict` returns is stored in the checkpoints, and a resumed run
        continues from it.

    Returns
    -------
    dict
        What `results.json` of the run folder holds.

    Raises
    ------
    UserError
        If something that the experiment names cannot be used.
    RunStopped
        If a signal stopped the run; its state is saved.
    RunFailed
        If the training diverged, or a file of the run could not be written.
    """
    folder = RunFolder(Path(experiment.run.dir))
    refuse_branch_without_checkpoint(experiment, folder)
    if experiment.run.resume:
        refuse_other_versions(folder)
        if folder.results.exists():
            return report(experiment, folder)
    check_output_folder(folder.path, "run.dir")
    check_loggers(experiment)
    silence_lightning()
    watch_first_rank()
    check_launch(experiment.train)
    leave_store_of_torchrun()
    device = training_device(experiment.train)
    genome = load_pretraining_genome(experiment.data)
    data = GenomeDataModule(experiment, genome)
    table = load_difficulty(experiment, genome)
    module = Pretraining(experiment, build_masker(experiment, data, table))
    is_first_rank = rank_zero_only.rank == 0  # type: ignore[attr-defined]  # Lightning sets it
    for notice in data.split.notices if is_first_rank else ():
        print(notice, file=sys.stderr)
    begun = begin_with_pretrained(experiment, folder, module)
    references = base_references(genome, data, module.masker) if is_first_rank else None
    entropy = unigram_entropy(table, genome, module.masker.tokenization)
    run_callbacks = build_callbacks(experiment, folder, table, entropy, references, callbacks)
    identity = run_identity(experiment, genome, table)
    with folder.acquire(experiment) if is_first_rank else nullcontext():
        if is_first_rank:
            keep_tokenizer(folder, module.masker.tokenization)
            if begun:
                folder.write_initial_weights(begun)
        step = saved_step(folder.last_checkpoint, identity, module)
        trainer = build_trainer(experiment, device.type, folder, run_callbacks, step, identity)
        with (
            find_callback(StopOnSignal, run_callbacks).caught(),
            lost_connections_reported(trainer.strategy.launcher),
            amid_run(folder.path, "run.resume=true goes on from what is saved"),
        ):
            fit(trainer, module, data, folder)
            results = collect_results(run_callbacks)
            results |= describe_inputs(experiment, folder, genome, table)
            if is_first_rank:
                folder.write_window_sums(find_callback(FinalEvaluation, run_callbacks).window_sums)
                folder.write_results(results)  # last: they say that the run is finished
        if is_first_rank:
            report(experiment, folder)
    return results


def begin_with_pretrained(
    experiment: Experiment, folder: RunFolder, module: Pretraining
) -> dict[str, Any]:
    """Load the weights of `model.init: PATH` if the run begins now; what they are, see
    `take_initial_weights`. A resumed run has its own, and PATH may be gone."""
    if experiment.run.resume and folder.last_checkpoint:
        return {}
    begun = take_initial_weights(experiment, module.model, module.masker.tokenization)
    is_first_rank = rank_zero_only.rank == 0  # type: ignore[attr-defined]  # Lightning sets it
    if is_first_rank and not begun.get("sep_token", True):
        # Nucleotide Transformer's: the first steps teach it the token.
        print(
            f"model.init: {experiment.model.init} was trained without [SEP], which ends the "
            f"sequences of this run",
            file=sys.stderr,
        )
    return begun


def keep_tokenizer(folder: RunFolder, tokenization: Tokenization) -> None:
    """Byte pairs belong to the run: whoever reads its model needs no genome.

    Raises
    ------
    UserError
        If the run began with others.
    """
    if not isinstance(tokenization, BytePairs):
        return
    path = folder.path / TOKENIZER
    if not path.exists():
        with atomic_write(path) as handle:
            handle.write(fast_tokenizer(tokenization).to_str())
    elif read_byte_pairs(str(path), tokenization.k) != tokenization:
        raise UserError(
            f"{path}: has other tokens than {tokenization.source}; a resumed run keeps its own, "
            f"wanted data.tokenizer={path}"
        )


def report(experiment: Experiment, folder: RunFolder) -> dict[str, Any]:
    """Print the summary of a finished run, return its results."""
    results = folder.read_results()
    try:
        print(printable(render_summary(experiment, results, folder.path)))
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{folder.results}: has no {error}, wanted the results of a finished run; without the "
            f"file, run.resume=true writes it anew"
        ) from error
    return results


def silence_lightning() -> None:
    """Turn off notices on devices and stopping: our progress bar and summary report the same."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Shown where Slurm is installed. A run starts its own ranks, also in a job (`cmgems sweep`)
    warnings.filterwarnings("ignore", message="The `srun` command is available on your system")


def build_callbacks(
    experiment: Experiment,
    folder: RunFolder,
    table: PmiTable | NgramTable,
    entropy: float,
    references: Callable[[], dict[str, float]] | None = None,
    extra: Sequence[L.Callback] = (),
) -> list[L.Callback]:
    """The callbacks of a run, in the order in which Lightning calls them.

    Parameters
    ----------
    entropy : float
        Entropy of the k-mers' frequencies, nats.
    references : callable, optional
        Returns the bits per hidden base of models without a network, see `base_references`.
    extra : sequence of Lightning callbacks
        The user's custom callbacks.
    """
    every = experiment.train.log_every_n_steps
    curriculum = CurriculumCallback(experiment, entropy)
    log = TrainingLog(curriculum, every, references)
    throughput = Throughput(every, build_tokenization(experiment.data), log)
    stop = StopOnSignal(folder.checkpoints, agree_every=every)
    return [
        curriculum,
        log,
        throughput,
        ComparisonLog(experiment, log, throughput),
        MaskLog(),
        *(_figures(curriculum, table) if experiment.train.figures else []),
        OnlineProbe(experiment, throughput.paused),
        StepProgress(log, throughput),
        FinalEvaluation(stop),
        *([Profile(folder.path / "profile")] if experiment.train.profile else []),
        *extra,
        # After all callbacks that have state to save.
        RunCheckpoints(folder.checkpoints, steps_to_keep(experiment)),
        stop,
    ]


def _figures(curriculum: CurriculumCallback, table: PmiTable | NgramTable) -> list[L.Callback]:
    """What draws pictures into TensorBoard."""
    ranks = [PmiPlots(table)] if isinstance(table, PmiTable) else []
    return [SchedulePlot(curriculum), *ranks]


C = TypeVar("C", bound=L.Callback)


def find_callback(kind: type[C], callbacks: Sequence[L.Callback]) -> C:
    """The callback of this class. There is one: two would be saved under the same name."""
    return next(callback for callback in callbacks if type(callback) is kind)


def build_trainer(
    experiment: Experiment,
    accelerator: str,
    folder: RunFolder,
    callbacks: list[L.Callback],
    step: int,
    identity: Mapping[str, Any],
) -> L.Trainer:
    """Lightning's trainer of a run, which continues the logs of a run that is resumed.

    Parameters
    ----------
    step : that the run resumes after, see `saved_step`
    identity : what its checkpoints say of it (`cmgems.runs.identity`)
    """
    train = experiment.train
    accumulate = train.global_batch_size // (train.micro_batch_size * train.devices * train.nodes)
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
        callbacks=callbacks,
        logger=build_loggers(experiment, folder.path, step),
        plugins=[SafeCheckpoints(identity)],
        log_every_n_steps=1,  # our own callbacks log
        enable_checkpointing=False,
        enable_model_summary=False,
    )


def fit(trainer: L.Trainer, module: Pretraining, data: GenomeDataModule, folder: RunFolder) -> None:
    """Validate the untrained model and train to the end, or resume from the last checkpoint; then
    measure what it has become, on more windows."""
    last = folder.last_checkpoint
    with warnings.catch_warnings():
        # The loader copies bytes out of a memory map; worker processes would only be slower.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # It is resumable: a batch is a function of its number, the loader starts at the right one.
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
        # torch deprecates what Lightning calls
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        if last is None:
            trainer.validate(module, datamodule=data, verbose=False, weights_only=True)
        trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)
        data.is_final = True
        trainer.validate(module, datamodule=data, verbose=False, weights_only=True)


def collect_results(callbacks: list[L.Callback]) -> dict[str, Any]:
    """The final results of a run, over all its sessions."""
    log, throughput = find_callback(TrainingLog, callbacks), find_callback(Throughput, callbacks)
    curriculum = find_callback(CurriculumCallback, callbacks)
    return {
        "initial": log.initial,
        "final": log.final,
        **find_callback(FinalEvaluation, callbacks).results(),
        "masked_fraction": log.masked_fractions(),
        "switches": curriculum.switches,
        "switched_at": curriculum.switched_at,
        "best_step": find_callback(RunCheckpoints, callbacks).best_step,
        "probe": find_callback(OnlineProbe, callbacks).scores,
        "tokens": throughput.tokens,
        "training_seconds": throughput.seconds,
        "tokens_per_second": throughput.tokens / max(throughput.seconds, 1e-9),
        "speed": throughput.results(),
    }


def describe_inputs(
    experiment: Experiment, folder: RunFolder, genome: Genome, table: PmiTable | NgramTable
) -> dict[str, Any]:
    """What a run was made of: genome and difficulty with digests, versions, where it began."""
    branch = {"branch": asdict(experiment.branch)} if experiment.branch.run else {}
    return {
        "genome": {"name": genome.name, "sha256": genome.sha256, "bases": len(genome.codes)},
        "pmi": {
            "definition": table.definition,
            "k": table.k,
            "rank_sha256": rank_sha256(table),
        },
        **provenance(),
        **folder.read_initial_weights(),
        **branch,
    }
