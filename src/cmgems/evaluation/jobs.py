"""One batch of an evaluation, from its files to its scores; runs in a worker process.

The test split is read where it is scored, after training, and handed to nothing that trains or
chooses: `train_trials` sees train and dev alone.
"""

import time
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from cmgems.data_modules.classification import (
    ClassificationDataModule,
    EvaluationData,
    Examples,
    TrainData,
    evaluation_loader,
)
from cmgems.evaluation.config import Evaluation
from cmgems.evaluation.finetuning.best_epoch import BestEpoch
from cmgems.evaluation.finetuning.classifier import save_classifier, unstack_classifiers
from cmgems.evaluation.finetuning.lora import merge
from cmgems.evaluation.finetuning.recipes import (
    Recipe,
    few_shot_recipe,
    full_recipe,
    with_learning_rate_for,
)
from cmgems.evaluation.finetuning.train import (
    Classifiers,
    FineTuneConfig,
    LabelScale,
    predict_logits,
    prepare_examples,
    train,
)
from cmgems.evaluation.linear.baselines import kmer_baseline, one_hot_baseline
from cmgems.evaluation.linear.models import Target
from cmgems.evaluation.linear.probe import probe
from cmgems.evaluation.linear.side_by_side import states_beside_counts
from cmgems.evaluation.metrics import Scores, score
from cmgems.evaluation.sources import ModelSource, load_encoder, load_language_model
from cmgems.evaluation.trials import FULL, PUBLISHED, WITH_COUNTS, TrialBatch, TrialSpec
from cmgems.inference.embedding import embed_sequences
from cmgems.inference.likelihood import pseudo_log_likelihood
from cmgems.models.encoder import Encoder
from cmgems.tasks import splits
from cmgems.tasks.dataset import LabelledSequences, both_strands, concatenate
from cmgems.tasks.lookup import find_task
from cmgems.tasks.task import Task
from cmgems.tasks.tokens import tokenize
from cmgems.utils.rng import derive_key


class JobContext(NamedTuple):
    """What a job needs besides its batch; small, so that it can be sent to a process."""

    evaluation: Evaluation
    sources: tuple[ModelSource, ...]
    device: str
    bf16: bool
    folder: str  # where classifiers are saved

    def has_encoder(self, name: str) -> bool:
        """Whether a model is an encoder, and not a linear baseline."""
        return any(source.name == name for source in self.sources)

    def source(self, name: str) -> ModelSource:
        """The source of an encoder."""
        return next(source for source in self.sources if source.name == name)

    @property
    def min_length(self) -> int:
        """Bases that every sequence must have to be a token of every model."""
        return max((source.tokenization.min_bases for source in self.sources), default=1)


class Result(NamedTuple):
    """The score of a trial, and what is worth knowing about it."""

    trial: TrialSpec
    scores: Scores
    loss: float  # mean training loss of the last epoch; nan where there is none
    seconds: float  # those of the whole batch, per trial
    chosen: dict[str, float]  # on train or dev: k and strength of a baseline, epoch of a training


def run_trials(context: JobContext, batch: TrialBatch) -> list[Result]:
    """Train and test the models of a batch."""
    started = time.perf_counter()
    protocol, task = context.evaluation.protocol, cached_task(batch.task)
    if not context.has_encoder(batch.model):
        results = [_baseline(context, task, trial) for trial in batch.trials]
    elif protocol == "zero_shot":
        results = [_zero_shot(context, task, trial) for trial in batch.trials]
    elif protocol == "probe":
        results = [_probe(context, task, trial) for trial in batch.trials]
    else:
        results = _finetune(context, task, batch)
    seconds = (time.perf_counter() - started) / len(results)
    return [result._replace(seconds=seconds) for result in results]


@lru_cache(maxsize=64)
def cached_task(name: str) -> Task:
    """`find_task`, once per process: a custom task is read from its file."""
    return find_task(name)


@lru_cache(maxsize=8)
def split(name: str, which: str, root: str, min_length: int) -> LabelledSequences:
    """A split of a task, once per process."""
    return splits.read_split(cached_task(name), which, root, min_length=min_length)


def training_examples(
    evaluation: Evaluation, task: Task, trial: TrialSpec, min_length: int
) -> LabelledSequences:
    """What a trial trains on."""
    root = evaluation.tasks.root
    if trial.shots == FULL:
        return split(trial.task, "train", root, min_length)
    replicate = None if trial.replicate == PUBLISHED else trial.replicate
    return splits.few_shot(task, trial.shots, replicate, root, min_length=min_length)


def test_examples(evaluation: Evaluation, name: str, min_length: int) -> LabelledSequences:
    """What the trials of a task are tested on."""
    return split(name, "test", evaluation.tasks.root, min_length)


def choose_recipe(evaluation: Evaluation, task: Task, shots: int) -> Recipe:
    """The published recipe, with what the user has set."""
    recipe = full_recipe(task) if shots == FULL else few_shot_recipe(shots)
    recipe = with_learning_rate_for(recipe, evaluation.classifier.finetune)
    options = asdict(evaluation.recipe)
    given = {name: value for name, value in options.items() if value > 0}
    given |= {name: options[name] for name in ("dropout", "weight_decay") if options[name] >= 0}
    return replace(recipe, **given)


def trial_seed(trial: TrialSpec) -> int:
    """Seed of a trial's head, order and dropout: the same for every model, so that they pair."""
    # The name of the random stream is part of the results: other words, other weights.
    return derive_key(trial.seed, f"{trial.task}, {trial.shots} shots, draw {trial.replicate}") >> 1


def make_finetune_config(evaluation: Evaluation, task: Task) -> FineTuneConfig:
    classifier = evaluation.classifier
    return FineTuneConfig(
        classifier.head,
        classifier.finetune,
        task.kind,
        len(task.classes),
        classifier.rank,
        2 if classifier.strands == "both" else 1,
    )


def _finetune(context: JobContext, task: Task, batch: TrialBatch) -> list[Result]:
    evaluation, source = context.evaluation, context.source(batch.model)
    encoders = [load_encoder(source, trial.seed, context.device) for trial in batch.trials]
    trained = train_trials(context, task, batch, encoders)
    test = test_examples(evaluation, batch.task, source.tokenization.min_bases)
    read = _strands_to_predict(evaluation, test)
    examples = _prepare(context, task, source, encoders[0], read)
    loader = evaluation_loader(EvaluationData(examples))
    logits = predict_logits(trained.model, loader, context.bf16)
    predictions = trained.scale.to_label_units(logits)
    if evaluation.save_classifiers:
        _save_classifiers(context, task, batch, trained.model)
    return [
        Result(
            trial,
            score(predictions[g], test.labels, task.kind),
            trained.losses[g],
            0.0,
            trained.chosen[g],
        )
        for g, trial in enumerate(batch.trials)
    ]


class TrainedClassifiers(NamedTuple):
    """The classifiers of a batch of trials, in their order."""

    model: Classifiers
    scale: LabelScale
    losses: list[float]  # of the last epoch
    chosen: list[dict[str, float]]  # on dev


def train_trials(
    context: JobContext, task: Task, batch: TrialBatch, encoders: list[Encoder]
) -> TrainedClassifiers:
    """Train the classifiers of a batch.

    In few-shot the last epoch counts; with all of the training split the epoch that is best on dev.
    """
    evaluation, bf16 = context.evaluation, context.bf16
    seeds = [trial_seed(trial) for trial in batch.trials]
    model = Classifiers(encoders, make_finetune_config(evaluation, task), seeds)
    recipe = choose_recipe(evaluation, task, batch.shots)
    data, scale = _data_module(context, task, batch, encoders[0], recipe.batch_size)
    if data.dev is None:
        losses = train(model, data, recipe, bf16)
        return TrainedClassifiers(model, scale, losses, [{} for _ in seeds])
    best = BestEpoch(model, data, task, scale, bf16)
    losses = train(model, data, recipe, bf16, best)
    return TrainedClassifiers(model, scale, losses, best.restore_best())


def _data_module(
    context: JobContext, task: Task, batch: TrialBatch, encoder: Encoder, batch_size: int
) -> tuple[ClassificationDataModule, LabelScale]:
    """What a batch trains on, and chooses on where that is dev."""
    evaluation, source = context.evaluation, context.source(batch.model)
    table, index_GN = _training_table(evaluation, task, batch, source.tokenization.min_bases)
    scale = LabelScale.fit(table.labels, task.kind)
    examples = _prepare(context, task, source, encoder, table)
    seeds = [trial_seed(trial) for trial in batch.trials]
    train_data = TrainData(examples, scale.targets(table.labels), index_GN, seeds)
    dev_data = None
    if batch.shots == FULL:
        dev = split(batch.task, "dev", evaluation.tasks.root, source.tokenization.min_bases)
        dev = _strands_to_predict(evaluation, dev)
        dev_examples = _prepare(context, task, source, encoder, dev)
        dev_data = EvaluationData(dev_examples, torch.from_numpy(dev.labels))
    return ClassificationDataModule(train_data, batch_size, dev_data), scale


def _training_table(
    evaluation: Evaluation, task: Task, batch: TrialBatch, min_length: int
) -> tuple[LabelledSequences, np.ndarray]:
    """The examples of all replicates, and int64 [G, N] which of them each trial trains on."""
    replicates = {
        t.replicate: training_examples(evaluation, task, t, min_length) for t in batch.trials
    }
    starts = dict(zip(replicates, np.cumsum([0, *map(len, replicates.values())]), strict=False))
    rows = {number: starts[number] + np.arange(len(data)) for number, data in replicates.items()}
    index_GN = np.stack([rows[trial.replicate] for trial in batch.trials])
    table = concatenate(list(replicates.values()))
    if evaluation.classifier.strands == "both":
        index_GN = np.concatenate([index_GN, len(table) + index_GN], axis=1)
        table = both_strands(table)
    return table, index_GN


def _prepare(
    context: JobContext,
    task: Task,
    source: ModelSource,
    encoder: Encoder,
    data: LabelledSequences,
) -> Examples:
    """Examples as the classifiers of this evaluation take them."""
    tokens = tokenize(data, source.tokenization, source.shape.max_position_embeddings)
    return prepare_examples(
        encoder, make_finetune_config(context.evaluation, task), tokens, context.bf16
    )


def _strands_to_predict(evaluation: Evaluation, data: LabelledSequences) -> LabelledSequences:
    """What is predicted: with both strands the reverse complements behind the sequences."""
    return both_strands(data) if evaluation.classifier.strands == "both" else data


def _save_classifiers(
    context: JobContext, task: Task, batch: TrialBatch, model: Classifiers
) -> None:
    evaluation = context.evaluation
    source = context.source(batch.model)
    encoder = load_encoder(source, 0, context.device)
    if model.encoder is not None:
        merge(model.encoder)
    classifiers = unstack_classifiers(model, encoder)
    for trial, classifier in zip(batch.trials, classifiers, strict=True):
        name = f"{task.name}-{Path(trial.model).name}-{trial.seed}".replace("/", "-")
        save_classifier(
            Path(context.folder) / name, classifier, source, task, evaluation.classifier.strands
        )


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
    source, task = context.source(trial.model), cached_task(trial.task)
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
    if trial.model == "kmers":
        strands = 2 if evaluation.classifier.strands == "both" else 1
        prediction = kmer_baseline(train_on, test, task.kind, len(task.classes), strands=strands)
    else:
        prediction = one_hot_baseline(train_on, test, task.kind, len(task.classes))
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
