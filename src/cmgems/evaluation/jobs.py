"""One batch of an evaluation, from its files to its scores; runs in a worker process."""

import time
from functools import lru_cache

import numpy as np

from cmgems.evaluation.cnn import cnn_baseline
from cmgems.evaluation.context import (
    JobContext,
    Result,
    dev_examples,
    test_examples,
    training_examples,
)
from cmgems.evaluation.finetune_trials import finetune
from cmgems.evaluation.linear.baselines import gc_baseline, kmer_baseline, one_hot_baseline
from cmgems.evaluation.linear.models import Target
from cmgems.evaluation.linear.probe import probe
from cmgems.evaluation.linear.side_by_side import states_beside_counts
from cmgems.evaluation.metrics import score
from cmgems.evaluation.sources import ModelSource, load_encoder, load_language_model
from cmgems.evaluation.trials import WITH_COUNTS, TrialBatch, TrialSpec
from cmgems.inference.embedding import embed_sequences
from cmgems.inference.likelihood import pseudo_log_likelihood
from cmgems.tasks.dataset import LabelledSequences
from cmgems.tasks.task import Task


def run_trials(context: JobContext, batch: TrialBatch) -> list[Result]:
    """Train and test the models of a batch."""
    started = time.perf_counter()
    protocol, task = context.evaluation.protocol, context.task(batch.task)
    if not context.has_encoder(batch.model):
        results = [_baseline(context, task, trial) for trial in batch.trials]
    elif protocol == "zero_shot":
        results = [_zero_shot(context, task, trial) for trial in batch.trials]
    elif protocol == "probe":
        results = [_probe(context, task, trial) for trial in batch.trials]
    else:
        results = finetune(context, task, batch)
    seconds = (time.perf_counter() - started) / len(results)
    return [result._replace(seconds=seconds) for result in results]


def _probe(context: JobContext, task: Task, trial: TrialSpec) -> Result:
    name = trial.model.removesuffix(WITH_COUNTS)
    source = context.source(name)
    examples = training_examples(context.evaluation, task, trial, source.tokenization.min_bases)
    target = Target(examples.labels, task.kind, len(task.classes))
    test = test_examples(context.evaluation, trial.task, source.tokenization.min_bases)
    states = (
        _training_states(context, trial._replace(model=name)),
        _test_states(context, source, trial.seed, trial.task),
    )
    if trial.model != name:
        prediction = states_beside_counts(states, examples, test, target)
        scores = score(prediction.logits, test.labels, task.kind)
        return Result(trial, scores, float("nan"), 0.0, prediction.chosen)
    found = probe(states[0], target, states[1], test.labels)
    neighbours = found["neighbours"].metrics()
    chosen = {f"neighbours_{name}": value for name, value in neighbours.items()}
    return Result(trial, found["logistic"], float("nan"), 0.0, chosen)


@lru_cache(maxsize=1)
def _training_states(context: JobContext, trial: TrialSpec) -> np.ndarray:
    """Pooled hidden states of what a trial trains on: with and without k-mer counts the same."""
    source, task = context.source(trial.model), context.task(trial.task)
    examples = training_examples(context.evaluation, task, trial, source.tokenization.min_bases)
    return _pooled_states(context, source, trial.seed, examples)


@lru_cache(maxsize=4)
def _test_states(context: JobContext, source: ModelSource, seed: int, name: str) -> np.ndarray:
    """Those of the test split: they are the same for all replicates."""
    test = test_examples(context.evaluation, name, source.tokenization.min_bases)
    return _pooled_states(context, source, seed, test)


def _pooled_states(
    context: JobContext, source: ModelSource, seed: int, data: LabelledSequences
) -> np.ndarray:
    config = context.evaluation.probe
    return embed_sequences(
        load_encoder(source, seed, context.device),
        data,
        source.tokenization,
        config.pool,
        config.layers,
        context.bf16,
    )


def _baseline(context: JobContext, task: Task, trial: TrialSpec) -> Result:
    evaluation = context.evaluation
    train_on = training_examples(evaluation, task, trial, context.min_length)
    test = test_examples(evaluation, trial.task, context.min_length)
    arguments = train_on, test, task.kind, len(task.classes)
    strands = evaluation.classifier.num_strands
    if trial.model == "kmers":
        prediction = kmer_baseline(*arguments, strands=strands)
    elif trial.model == "one_hot":
        prediction = one_hot_baseline(*arguments)
    elif trial.model == "gc":
        prediction = gc_baseline(*arguments)
    else:
        dev = dev_examples(evaluation, task, trial, context.min_length)
        prediction = cnn_baseline(*arguments, trial.seed, strands, dev, context.device)
    scores = score(prediction.logits, test.labels, task.kind)
    return Result(trial, scores, float("nan"), 0.0, prediction.chosen)


def _zero_shot(context: JobContext, task: Task, trial: TrialSpec) -> Result:
    """Likelihood per base as the score of class 1 against class 0, whichever way it points."""
    source = context.source(trial.model)
    test = test_examples(context.evaluation, trial.task, source.tokenization.min_bases)
    model = load_language_model(source, trial.seed).to(context.device)
    sequences = map(test.sequence, range(len(test)))
    likelihoods = [pseudo_log_likelihood(model, source.tokenization, codes) for codes in sequences]
    likelihood = np.array([sequence.mean for sequence in likelihoods])
    logits = np.stack([np.zeros(len(test)), likelihood - np.median(likelihood)], 1)
    return Result(trial, score(logits, test.labels, task.kind), float("nan"), 0.0, {})
