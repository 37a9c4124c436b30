"""`cmgems evaluate`: from an experiment file to scores with their uncertainty.

Read `evaluate` from top to bottom. What the user gave is checked before anything is trained; what
was done in the folder before is not done again.
"""

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch

from cmgems.config.loading import dump
from cmgems.cost.device import choose_device
from cmgems.errors import UserError
from cmgems.evaluation import jobs
from cmgems.evaluation.config import Evaluation
from cmgems.evaluation.jobs import JobContext, Result
from cmgems.evaluation.journal import Journal, hash_parts, to_json
from cmgems.evaluation.report import report, summaries, write_scalars
from cmgems.evaluation.sources import load_sources
from cmgems.evaluation.trials import FULL, TrialBatch, make_batches
from cmgems.runs.folder import LOCK, provenance
from cmgems.tasks import splits
from cmgems.tasks.audit import Audit, audit_splits, count_pretraining_overlap
from cmgems.tasks.lookup import find_tasks
from cmgems.tasks.task import Task
from cmgems.utils.cores import available_cores
from cmgems.utils.files import atomic_write, file_lock
from cmgems.utils.progress import progress_bar

JOURNAL, RESULTS, SAVED = "scores.jsonl", "results.json", "classifiers"


def evaluate(evaluation: Evaluation) -> dict[str, Any]:
    """Run or go on with an evaluation; print its table, return what `results.json` holds."""
    started = time.perf_counter()
    folder = Path(evaluation.run.dir)
    context = make_context(evaluation, folder)
    chosen = select_tasks(evaluation)
    shots_of, skipped = shots_by_task(evaluation, chosen, context)
    batches = make_batches(evaluation, context.sources, shots_of, context.device == "cuda")
    keys = {batch: hash_batch(context, chosen[batch.task], batch) for batch in batches}
    audits = {name: audit_task(evaluation, one) for name, one in chosen.items()}
    folder = prepare_folder(folder, evaluation)
    with file_lock(folder / LOCK, f"run.dir: {folder} is in use by another process"):
        journal = Journal(folder / JOURNAL)
        left = [batch for batch in batches if keys[batch] not in journal.results]
        trials = sum(len(batch.trials) for batch in left)
        with progress_bar(trials, "trainings and tests", "") as advance:
            for batch, results in compute_batches(context, left):
                journal.add(keys[batch], results)
                advance(len(batch.trials))
    results = sort_results(batches, [journal.results[keys[batch]] for batch in batches])
    found = {
        "protocol": evaluation.protocol,
        "models": [
            source._asdict() | {"shape": asdict(source.shape)} | source.tokens
            for source in context.sources
        ],
        "device": context.device,
        "precision": "bf16" if context.bf16 else "32-true",
        "skipped": skipped,
        **summaries(results, chosen),
        "audits": {name: asdict(one) for name, one in audits.items() if one},
        "scores": [to_json(result) for result in results],
        "seconds": time.perf_counter() - started,
        "trials_run": trials,
        **provenance(),
    }
    with atomic_write(folder / RESULTS) as handle:
        json.dump(found, handle, indent=2)
    write_scalars(folder, found)
    print(report(found, chosen, audits, folder))
    return found


def sort_results(batches: list[TrialBatch], results: list[list[Result]]) -> list[Result]:
    """All results by task and shots; models as the user named them, then the baselines."""
    models = list(dict.fromkeys(batch.model for batch in batches))
    names = list(dict.fromkeys(batch.task for batch in batches))

    def place(result: Result) -> tuple[int, ...]:
        trial = result.trial
        return (
            names.index(trial.task),
            trial.shots,
            models.index(trial.model),
            trial.replicate,
            trial.seed,
        )

    return sorted((one for its in results for one in its), key=place)


def make_context(evaluation: Evaluation, folder: Path) -> JobContext:
    """Models, device and arithmetic."""
    device = choose_device(evaluation.compute.device, "compute.device").type
    found = tuple(load_sources(evaluation))
    layer, most = evaluation.probe.layer, min((s.shape.num_layers for s in found), default=10**9)
    if layer > most:
        raise UserError(f"probe.layer: found {layer}, wanted at most {most}, the model's layers")
    precision = evaluation.compute.precision
    bf16 = has_bf16_products(device) if precision == "auto" else precision == "bf16"
    return JobContext(evaluation, found, device, bf16, str(folder / SAVED))


def has_bf16_products(device: str) -> bool:
    """Whether the hardware has bfloat16 products; without them they are slower than float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo")
    text = flags.read_text() if flags.exists() else ""
    return "avx512_bf16" in text or "amx_bf16" in text


def select_tasks(evaluation: Evaluation) -> dict[str, Task]:
    """The tasks under the names by which `tasks.task` finds them again."""
    if not evaluation.tasks.names:
        raise UserError("tasks.names: found none, wanted at least one task")
    found = {}
    for pattern in evaluation.tasks.names:
        for one in find_tasks(pattern):
            found[pattern if one.group == "user" else one.name] = one
    return found


def shots_by_task(
    evaluation: Evaluation, chosen: dict[str, Task], context: JobContext
) -> tuple[dict[str, list[int]], list[str]]:
    """The numbers of shots that each task has examples for, and what it has not, in words.

    Raises
    ------
    UserError
        If the files of a task cannot be used, or are too small for every number of shots.
    """
    shots = sorted(int(n) for n in evaluation.few_shot.shots)
    if evaluation.protocol in ("full", "zero_shot") or not shots:
        for name, one in chosen.items():
            check_splits(evaluation, name, one, context)
        return {name: [FULL] for name in chosen}, []
    found, skipped = {}, []
    for name, one in chosen.items():
        problems = {n: find_shortage(evaluation, one, n, context.min_length) for n in shots}
        found[name] = [n for n in shots if problems[n] is None]
        if not found[name]:
            raise problems[shots[0]]
        skipped += [str(problem) for problem in problems.values() if problem]
        jobs.test_examples(evaluation, name, context.min_length)
    return found, skipped


def find_shortage(
    evaluation: Evaluation, one: Task, shots: int, min_length: int
) -> splits.TooFewExamples | None:
    """The error of a replicate for which there are too few examples."""
    root = evaluation.tasks.root
    try:
        draw = None if evaluation.few_shot.published else 0
        splits.few_shot(one, shots, draw, root, 0, min_length)
    except splits.TooFewExamples as error:
        return error
    return None


def check_splits(evaluation: Evaluation, name: str, one: Task, context: JobContext) -> None:
    wanted = {"full": ("train", "dev", "test"), "zero_shot": ("test",)}
    for split in wanted.get(evaluation.protocol, ("train", "test")):
        jobs.split(name, split, evaluation.tasks.root, context.min_length)
    if evaluation.protocol == "zero_shot" and one.kind != "binary":
        raise UserError(f"tasks.names: {name} is {one.kind}, protocol zero_shot wants two classes")


def hash_batch(context: JobContext, one: Task, batch: TrialBatch) -> str:
    """What the figures of a batch depend on, as a hash."""
    evaluation, source = context.evaluation, context.source(batch.model)
    train = [jobs.training_examples(evaluation, one, u, context.min_length) for u in batch.trials]
    test = jobs.test_examples(evaluation, batch.task, context.min_length)
    return hash_parts(
        trials=[list(trial) for trial in batch.trials],
        source=source and [source.sha256, source.tokens, asdict(source.shape), source.init],
        protocol=evaluation.protocol,
        classifier=source and asdict(evaluation.classifier),
        recipe=source and asdict(jobs.choose_recipe(evaluation, one, batch.shots)),
        probe=source and asdict(evaluation.probe),
        arithmetic=source and [context.device, context.bf16],
        task=[one.kind, one.metric, list(one.classes)],
        examples=[hash_examples(data) for data in (*train, test)],
    )


def hash_examples(data) -> str:
    """A hash of labelled sequences."""
    total = hashlib.sha256()
    for column in (data.codes, data.offsets, data.labels):
        total.update(column.tobytes())
    return total.hexdigest()


def prepare_folder(folder: Path, evaluation: Evaluation) -> Path:
    """The folder of the results, new or with scores of before."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"run.dir: {folder} is a file, wanted a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "evaluation.yaml").exists():
        raise UserError(
            f"run.dir: {folder} holds something that is no evaluation, wanted an empty or new "
            f"folder or one of an evaluation"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "evaluation.yaml") as handle:
        handle.write(dump(evaluation))
    return folder


def audit_task(evaluation: Evaluation, one: Task) -> Audit | None:
    """Duplicates between train, test and the DNA that the models were pretrained on."""
    if not evaluation.check_leakage:
        return None
    root = evaluation.tasks.root
    test = splits.read_split(one, "test", root)
    train = splits.read_published_examples(one, root) if "train" in one.splits else test
    found = audit_splits(train, test, one.classes)
    for name in evaluation.models:
        spans = pretraining_spans(Path(name))
        if spans:
            return count_pretraining_overlap(found, *spans, test)
    return found


def pretraining_spans(source: Path):
    """(codes, spans) that a run of ours was pretrained on; None where that is not known."""
    run = source if source.is_dir() else source.parent.parent
    if not (run / "config.yaml").is_file():
        return None
    from cmgems.data_modules.pretraining import GenomeDataModule
    from cmgems.genome.cache import load_genome
    from cmgems.runs.experiment import load

    experiment = load(run / "config.yaml")
    genome = load_genome(experiment.data.genome)
    return genome.codes, GenomeDataModule(experiment, genome).train_spans


def compute_batches(
    context: JobContext, batches: list[TrialBatch]
) -> Iterator[tuple[TrialBatch, list[Result]]]:
    """The results of all batches as they come, from several processes where that helps."""
    workers = context.evaluation.compute.workers or available_cores()
    workers = min(workers, len(batches))
    if context.device == "cuda" or workers < 2:
        for batch in batches:
            yield batch, jobs.run_trials(context, batch)
        return
    with worker_pool(workers) as pool:
        waiting = {pool.submit(jobs.run_trials, context, batch): batch for batch in batches}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes with one thread each, which end with this one, whatever ends it."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin_worker)
    previous = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)
        pool.shutdown()


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """A parent that was killed cannot end its workers: each waits for its death, and follows."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
