"""`cmgems evaluate`: from an experiment file to scores with their uncertainty.

Read `evaluate` from top to bottom. What the user gave is checked before anything is trained; what
was done in the folder before is not done again.
"""

import hashlib
import json
import time
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from cmgems.config.loading import dump
from cmgems.cost.device import choose_device
from cmgems.errors import UserError
from cmgems.evaluation.config import Evaluation
from cmgems.evaluation.context import (
    JobContext,
    Result,
    cached_task,
    dev_examples,
    split,
    test_examples,
    training_examples,
)
from cmgems.evaluation.finetune_trials import choose_recipe
from cmgems.evaluation.journal import Journal, hash_parts, to_json
from cmgems.evaluation.leakage import audit_task
from cmgems.evaluation.report import category_means, report, summaries, write_scalars
from cmgems.evaluation.sources import load_sources
from cmgems.evaluation.trials import FULL, TrialBatch, make_batches
from cmgems.evaluation.workers import compute_batches
from cmgems.inference.embedding import resolve_layers
from cmgems.runs.folder import LOCK, provenance
from cmgems.tasks import splits
from cmgems.tasks.dataset import LabelledSequences
from cmgems.tasks.lookup import find_tasks
from cmgems.tasks.task import Task
from cmgems.utils.escapes import printable
from cmgems.utils.files import atomic_write, file_lock
from cmgems.utils.outputs import amid_run, check_output_folder
from cmgems.utils.progress import progress_bar

JOURNAL, RESULTS, SAVED = "scores.jsonl", "results.json", "classifiers"


def evaluate(evaluation: Evaluation) -> dict[str, Any]:
    """Run or resume an evaluation; print its table, return what `results.json` holds."""
    started = time.perf_counter()
    folder = Path(evaluation.run.dir)
    check_output_folder(folder, "run.dir")
    context = make_context(evaluation, folder)
    tasks = select_tasks(evaluation)
    shots_of, skipped = shots_by_task(evaluation, tasks, context)
    batches = make_batches(evaluation, context.sources, shots_of, context.device == "cuda")
    keys = {batch: hash_batch(context, tasks[batch.task], batch) for batch in batches}
    audits = {name: audit_task(evaluation, task) for name, task in tasks.items()}
    prepare_folder(folder, evaluation)
    with file_lock(folder / LOCK, f"run.dir: {folder} is in use by another process"):
        journal = Journal(folder / JOURNAL)
        with amid_run(folder, "the same command resumes the evaluation"):
            trials_run = compute_missing(context, keys, journal)
    results = sort_results(batches, [journal.results[keys[batch]] for batch in batches])
    by_cell = summaries(results, tasks)
    summary = {
        "protocol": evaluation.protocol,
        "models": [
            source._asdict() | {"shape": asdict(source.shape)} | source.tokens
            for source in context.sources
        ],
        "device": context.device,
        "precision": "bf16" if context.bf16 else "32-true",
        "skipped": skipped,
        **by_cell,
        "categories": category_means(by_cell["summaries"], tasks),
        "audits": {name: asdict(audit) for name, audit in audits.items() if audit},
        "scores": [to_json(result) for result in results],
        "seconds": time.perf_counter() - started,
        "trials_run": trials_run,
        **provenance(),
    }
    with atomic_write(folder / RESULTS) as handle:
        json.dump(summary, handle, indent=2)
    write_scalars(folder, summary)
    print(printable(report(summary, tasks, audits, folder)))
    return summary


def compute_missing(context: JobContext, keys: dict[TrialBatch, str], journal: Journal) -> int:
    """Compute the batches that the journal lacks, add them to it, and count their trials."""
    missing = [batch for batch, key in keys.items() if key not in journal.results]
    trials = sum(len(batch.trials) for batch in missing)
    with progress_bar(trials, "trainings and tests", "") as advance:
        for batch, results in compute_batches(context, missing):
            journal.add(keys[batch], results)
            advance(len(batch.trials))
    return trials


def sort_results(batches: list[TrialBatch], results: list[list[Result]]) -> list[Result]:
    """All results by task and shots; models as the user named them, then the baselines."""
    models = list(dict.fromkeys(trial.model for batch in batches for trial in batch.trials))
    names = list(dict.fromkeys(batch.task for batch in batches))

    def position(result: Result) -> tuple[int, ...]:
        trial = result.trial
        task, model = names.index(trial.task), models.index(trial.model)
        return task, trial.shots, model, trial.replicate, trial.seed

    return sorted(chain.from_iterable(results), key=position)


def make_context(evaluation: Evaluation, folder: Path) -> JobContext:
    """Models, device and arithmetic."""
    device = choose_device(evaluation.compute.device, "compute.device").type
    sources = tuple(load_sources(evaluation))
    for source in sources:
        try:
            resolve_layers(evaluation.probe.layers, source.shape.num_layers)
        except ValueError as error:
            raise UserError(f"probe.layers: {error}, the layers of {source.name}") from error
    precision = evaluation.compute.precision
    bf16 = has_bf16_products(device) if precision == "auto" else precision == "bf16"
    return JobContext(evaluation, sources, device, bf16, str(folder / SAVED))


def has_bf16_products(device: str) -> bool:
    """Whether the hardware has bfloat16 products; without them they are slower than float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo")
    text = flags.read_text() if flags.exists() else ""
    return "avx512_bf16" in text or "amx_bf16" in text


def select_tasks(evaluation: Evaluation) -> dict[str, Task]:
    """The tasks under the names by which `find_task` finds them again."""
    if not evaluation.tasks.names:
        raise UserError("tasks.names: found none, wanted at least one task")
    tasks = {}
    for pattern in evaluation.tasks.names:
        for task in find_tasks(pattern):
            name = pattern if task.group == "user" else task.name
            tasks[name] = cached_task(name, evaluation.tasks.genome)
    return tasks


def shots_by_task(
    evaluation: Evaluation, tasks: dict[str, Task], context: JobContext
) -> tuple[dict[str, list[int]], list[str]]:
    """The numbers of shots that each task has examples for, and messages about the others.

    Raises
    ------
    UserError
        If the files of a task cannot be used, or are too small for every number of shots.
    """
    shots = sorted(int(n) for n in evaluation.few_shot.shots)
    if evaluation.protocol in ("full", "zero_shot") or not shots:
        for name, task in tasks.items():
            check_splits(evaluation, name, task, context)
        return {name: [FULL] for name in tasks}, []
    usable, skipped = {}, []
    for name, task in tasks.items():
        shortages = [find_shortage(evaluation, task, n, context.min_length) for n in shots]
        usable[name] = [n for n, problem in zip(shots, shortages, strict=True) if problem is None]
        problems = [problem for problem in shortages if problem is not None]
        if not usable[name]:
            raise problems[0]
        skipped += [str(problem) for problem in problems]
        test_examples(evaluation, name, context.min_length)
    return usable, skipped


def find_shortage(
    evaluation: Evaluation, task: Task, shots: int, min_length: int
) -> splits.TooFewExamples | None:
    """The error of a replicate for which there are too few examples."""
    root = evaluation.tasks.root
    try:
        replicate = None if evaluation.few_shot.published else 0
        splits.few_shot(task, shots, replicate, root, min_length=min_length)
    except splits.TooFewExamples as error:
        return error
    return None


def check_splits(evaluation: Evaluation, name: str, task: Task, context: JobContext) -> None:
    """Read every split that the protocol needs, so that errors come before any training."""
    needed = {"full": ("train", "dev", "test"), "zero_shot": ("test",)}
    for which in needed.get(evaluation.protocol, ("train", "test")):
        split(name, which, evaluation.tasks, context.min_length)
    if evaluation.protocol == "zero_shot" and task.kind != "binary":
        raise UserError(f"tasks.names: {name} is {task.kind}, protocol zero_shot wants two classes")


def hash_batch(context: JobContext, task: Task, batch: TrialBatch) -> str:
    """A hash of what the scores of a batch depend on."""
    evaluation = context.evaluation
    train = [training_examples(evaluation, task, t, context.min_length) for t in batch.trials]
    test = test_examples(evaluation, batch.task, context.min_length)
    parts: dict[str, Any] = {
        "trials": [list(trial) for trial in batch.trials],
        "protocol": evaluation.protocol,
        "task": [task.kind, task.metric, list(task.classes)],
        "examples": [hash_examples(data) for data in (*train, test)],
    }
    if context.has_encoder(batch.model):
        source = context.source(batch.model)
        parts |= {
            "source": [source.sha256, source.tokens, asdict(source.shape), source.init],
            "classifier": asdict(evaluation.classifier),
            "recipe": asdict(choose_recipe(evaluation, task, batch.shots)),
            "probe": asdict(evaluation.probe),
            "arithmetic": [context.device, context.bf16],
        }
    elif batch.model in ("kmers", "cnn"):
        parts["strands"] = evaluation.classifier.num_strands
    if batch.model == "cnn":
        dev = dev_examples(evaluation, task, batch.trials[0], context.min_length)
        parts["dev"] = dev and hash_examples(dev)
        parts["arithmetic"] = context.device
    return hash_parts(**parts)


def hash_examples(data: LabelledSequences) -> str:
    """A hash of sequences and labels."""
    total = hashlib.sha256()
    for column in (data.codes, data.offsets, data.labels):
        total.update(column.tobytes())
    return total.hexdigest()


def prepare_folder(folder: Path, evaluation: Evaluation) -> None:
    """Make the folder of the results, unless it is there with earlier scores.

    Raises
    ------
    UserError
        If something else is in its place.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "evaluation.yaml").exists():
        raise UserError(
            f"run.dir: {folder} holds something that is not an evaluation, wanted an empty or new "
            f"folder or one of an evaluation"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "evaluation.yaml") as handle:
        handle.write(dump(evaluation))
