"""Trials that fine-tune: those of a batch are trained side by side, then tested.

`train_trials` sees train and dev alone.
"""

from dataclasses import asdict, replace
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
from cmgems.evaluation.context import (
    JobContext,
    Result,
    split,
    test_examples,
    training_examples,
)
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
from cmgems.evaluation.metrics import score
from cmgems.evaluation.sources import ModelSource, load_encoder
from cmgems.evaluation.trials import FULL, TrialBatch, TrialSpec
from cmgems.models.encoder import Encoder
from cmgems.tasks.dataset import LabelledSequences, both_strands, concatenate
from cmgems.tasks.task import Task
from cmgems.tasks.tokens import tokenize
from cmgems.utils.rng import derive_key


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
        classifier.num_strands,
    )


def finetune(context: JobContext, task: Task, batch: TrialBatch) -> list[Result]:
    """Train the classifiers of a batch, and score them on test."""
    evaluation, source = context.evaluation, context.source(batch.model)
    encoders = [load_encoder(source, trial.seed, context.device) for trial in batch.trials]
    trained = train_trials(context, task, batch, encoders)
    test = test_examples(evaluation, batch.task, source.tokenization.min_bases)
    read = _on_strands(evaluation, test)
    examples = _prepare(context, task, source, encoders[0], read)
    loader = evaluation_loader(EvaluationData(examples))
    logits = predict_logits(trained.model, loader, context.bf16)
    predictions = trained.scale.to_label_units(logits)
    if evaluation.save_classifiers:
        _save_classifiers(context, task, batch, trained)
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
        dev = split(batch.task, "dev", evaluation.tasks, source.tokenization.min_bases)
        dev = _on_strands(evaluation, dev)
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
    if evaluation.classifier.num_strands == 2:
        index_GN = np.concatenate([index_GN, len(table) + index_GN], axis=1)
    return _on_strands(evaluation, table), index_GN


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


def _on_strands(evaluation: Evaluation, data: LabelledSequences) -> LabelledSequences:
    """The sequences, with both strands their reverse complements behind them."""
    return both_strands(data) if evaluation.classifier.num_strands == 2 else data


def _save_classifiers(
    context: JobContext, task: Task, batch: TrialBatch, trained: TrainedClassifiers
) -> None:
    strands, model = context.evaluation.classifier.strands, trained.model
    source = context.source(batch.model)
    encoder = load_encoder(source, 0, context.device)
    if model.encoder is not None:
        merge(model.encoder)
    classifiers = unstack_classifiers(model, encoder)
    for trial, classifier in zip(batch.trials, classifiers, strict=True):
        name = f"{task.name}-{Path(trial.model).name}-{trial.seed}".replace("/", "-")
        folder = Path(context.folder) / name
        save_classifier(folder, classifier, source, task, strands, trained.scale)
