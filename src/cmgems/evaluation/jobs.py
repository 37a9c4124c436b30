"""One group of an evaluation, from its files to its scores; runs in a worker process.

The test split is read where it is answered, after training, and handed to nothing that trains or
chooses: `trained` sees train and dev alone.
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
from cmgems.evaluation.finetuning.lora import merge
from cmgems.evaluation.finetuning.recipes import Recipe, few_shot_recipe, for_body, full_recipe
from cmgems.evaluation.finetuning.train import (
    Classifiers,
    LabelScale,
    Plan,
    answer,
    examples_for,
    train,
)
from cmgems.evaluation.linear.baselines import kmer_baseline, one_hot_baseline
from cmgems.evaluation.linear.models import Target
from cmgems.evaluation.linear.probe import probe
from cmgems.evaluation.metrics import Scores, score
from cmgems.evaluation.sources import Source, encoder_of, language_model
from cmgems.evaluation.units import FULL, PUBLISHED, Group, Unit
from cmgems.models.encoder import Encoder
from cmgems.tasks import splits
from cmgems.tasks.dataset import LabelledSequences, concatenate
from cmgems.tasks.lookup import find_task
from cmgems.tasks.task import Task
from cmgems.tasks.tokens import tokenise
from cmgems.utils.rng import stream


class Settings(NamedTuple):
    """What a job needs to know beside its group; small, so that it can be sent."""

    evaluation: Evaluation
    sources: tuple[Source, ...]
    device: str
    bf16: bool
    folder: str  # where classifiers are kept

    def source(self, name: str) -> Source | None:
        """None for a baseline that is no encoder."""
        return next((source for source in self.sources if source.name == name), None)

    @property
    def min_length(self) -> int:
        """Bases that every sequence must have: the largest k of all models."""
        return max((source.k for source in self.sources), default=1)


class Result(NamedTuple):
    """The score of a unit, and what is worth knowing about it."""

    unit: Unit
    scores: Scores
    loss: float  # mean training loss of the last epoch; nan where there is none
    seconds: float  # of the whole group, a unit's share
    chosen: dict[str, float]  # on train or dev: k and strength of a baseline, epoch of a training


def run_group(settings: Settings, group: Group) -> list[Result]:
    """Train and test the models of a group."""
    started = time.perf_counter()
    protocol, its_task = settings.evaluation.protocol, task_named(group.task)
    if settings.source(group.model) is None:
        found = [_baseline(settings, its_task, unit) for unit in group.units]
    elif protocol == "zero_shot":
        found = [_zero_shot(settings, its_task, unit) for unit in group.units]
    elif protocol == "probe":
        found = [_probe(settings, its_task, unit) for unit in group.units]
    else:
        found = _fine_tuned(settings, its_task, group)
    seconds = (time.perf_counter() - started) / len(found)
    return [result._replace(seconds=seconds) for result in found]


@lru_cache(maxsize=64)
def task_named(name: str) -> Task:
    return find_task(name)


@lru_cache(maxsize=8)
def split(name: str, which: str, root: str, k: int) -> LabelledSequences:
    return splits.read_split(task_named(name), which, root, min_length=k)


def examples_of(evaluation: Evaluation, its_task: Task, unit: Unit, k: int) -> LabelledSequences:
    """What a unit trains on."""
    root = evaluation.tasks.root
    if unit.shots == FULL:
        return split(unit.task, "train", root, k)
    draw = None if unit.draw == PUBLISHED else unit.draw
    return splits.few_shot(its_task, unit.shots, draw, root, min_length=k)


def test_of(evaluation: Evaluation, name: str, k: int) -> LabelledSequences:
    return split(name, "test", evaluation.tasks.root, k)


def recipe_of(evaluation: Evaluation, its_task: Task, shots: int) -> Recipe:
    """The published recipe, with what the user has set."""
    recipe = full_recipe(its_task) if shots == FULL else few_shot_recipe(shots)
    recipe = for_body(recipe, evaluation.classifier.finetune)
    own = asdict(evaluation.recipe)
    given = {name: value for name, value in own.items() if value > 0}
    given |= {name: own[name] for name in ("dropout", "weight_decay") if own[name] >= 0}
    return replace(recipe, **given)


def seed_of(unit: Unit) -> int:
    """Seed of a unit's head, order and dropout: the same for every model, so that they pair."""
    return stream(unit.seed, f"{unit.task}, {unit.shots} shots, draw {unit.draw}") >> 1


def plan_of(evaluation: Evaluation, its_task: Task) -> Plan:
    its = evaluation.classifier
    return Plan(its.head, its.finetune, its_task.kind, len(its_task.classes), its.rank)


def _fine_tuned(settings: Settings, its_task: Task, group: Group) -> list[Result]:
    evaluation, source = settings.evaluation, settings.source(group.model)
    encoders = [encoder_of(source, unit.seed, settings.device) for unit in group.units]
    found = trained(settings, its_task, group, encoders)
    test = test_of(evaluation, group.task, source.k)
    examples = _tokenised(settings, its_task, source, encoders[0], test)
    logits = answer(found.model, evaluation_loader(EvaluationData(examples)), settings.bf16)
    answers = found.scale.answers(logits)
    if evaluation.save_classifiers:
        _keep(settings, its_task, group, found.model)
    return [
        Result(
            unit,
            score(answers[g], test.labels, its_task.kind),
            found.losses[g],
            0.0,
            found.chosen[g],
        )
        for g, unit in enumerate(group.units)
    ]


class Trained(NamedTuple):
    """The classifiers of a group."""

    model: Classifiers
    scale: LabelScale
    losses: list[float]  # of the last epoch
    chosen: list[dict[str, float]]  # on dev


def trained(settings: Settings, its_task: Task, group: Group, encoders: list[Encoder]) -> Trained:
    """Train the classifiers of a group.

    In few-shot the last epoch counts; with all of the training split the epoch that is best on dev.
    """
    evaluation, bf16 = settings.evaluation, settings.bf16
    seeds = [seed_of(unit) for unit in group.units]
    model = Classifiers(encoders, plan_of(evaluation, its_task), seeds)
    recipe = recipe_of(evaluation, its_task, group.shots)
    data, scale = _data_module(settings, its_task, group, encoders[0], recipe.batch_size)
    if data.dev is None:
        losses = train(model, data, recipe, bf16)
        return Trained(model, scale, losses, [{} for _ in seeds])
    best = BestEpoch(model, data, its_task, scale, bf16)
    losses = train(model, data, recipe, bf16, best)
    return Trained(model, scale, losses, best.take())


def _data_module(
    settings: Settings, its_task: Task, group: Group, encoder: Encoder, batch_size: int
) -> tuple[ClassificationDataModule, LabelScale]:
    """What a group trains on, and chooses on where that is dev."""
    evaluation, source = settings.evaluation, settings.source(group.model)
    table, index_GN = _training_table(evaluation, its_task, group, source.k)
    scale = LabelScale.of(table.labels, its_task.kind)
    examples = _tokenised(settings, its_task, source, encoder, table)
    seeds = [seed_of(unit) for unit in group.units]
    train_data = TrainData(examples, scale.targets(table.labels), index_GN, seeds)
    dev_data = None
    if group.shots == FULL:
        dev = split(group.task, "dev", evaluation.tasks.root, source.k)
        dev_examples = _tokenised(settings, its_task, source, encoder, dev)
        dev_data = EvaluationData(dev_examples, torch.from_numpy(dev.labels))
    return ClassificationDataModule(train_data, batch_size, dev_data), scale


def _training_table(
    evaluation: Evaluation, its_task: Task, group: Group, k: int
) -> tuple[LabelledSequences, np.ndarray]:
    """The examples of all draws, and int64 [G, N] which of them each unit trains on."""
    draws = {u.draw: examples_of(evaluation, its_task, u, k) for u in group.units}
    starts = dict(zip(draws, np.cumsum([0, *map(len, draws.values())]), strict=False))
    index_GN = np.stack([starts[u.draw] + np.arange(len(draws[u.draw])) for u in group.units])
    return concatenate(list(draws.values())), index_GN


def _tokenised(
    settings: Settings, its_task: Task, source: Source, encoder: Encoder, data: LabelledSequences
) -> Examples:
    """Examples as the classifiers of this evaluation want them."""
    tokens = tokenise(data, source.k, source.shape.max_position_embeddings)
    return examples_for(encoder, plan_of(settings.evaluation, its_task), tokens, settings.bf16)


def _keep(settings: Settings, its_task: Task, group: Group, model: Classifiers) -> None:
    from cmgems.evaluation.finetuning.classifier import classifiers_of, save_classifier

    source = settings.source(group.model)
    encoder = encoder_of(source, 0, settings.device)
    if model.body is not None:
        merge(model.body)
    for unit, found in zip(group.units, classifiers_of(model, encoder), strict=True):
        name = f"{its_task.name}-{Path(unit.model).name}-{unit.seed}".replace("/", "-")
        save_classifier(Path(settings.folder) / name, found, source, its_task)


def _probe(settings: Settings, its_task: Task, unit: Unit) -> Result:
    evaluation, source = settings.evaluation, settings.source(unit.model)
    examples = examples_of(evaluation, its_task, unit, source.k)
    target = Target(examples.labels, its_task.kind, len(its_task.classes))
    test = test_of(evaluation, unit.task, source.k)
    found = probe(
        _features(settings, source, unit.seed, examples),
        target,
        _test_features(settings, source, unit.seed, unit.task),
        test.labels,
    )
    beside = found["neighbours"].figures()
    chosen = {f"neighbours_{name}": value for name, value in beside.items()}
    return Result(unit, found["logistic"], float("nan"), 0.0, chosen)


@lru_cache(maxsize=4)
def _test_features(settings: Settings, source: Source, seed: int, name: str) -> np.ndarray:
    """Those of the test split are the same for all draws."""
    return _features(settings, source, seed, test_of(settings.evaluation, name, source.k))


def _features(settings: Settings, source: Source, seed: int, data: LabelledSequences) -> np.ndarray:
    from cmgems.inference.embedding import pooled

    its = settings.evaluation.probe
    layer = None if its.layer == -1 else its.layer
    encoder = encoder_of(source, seed, settings.device)
    return pooled(encoder, data, source.k, its.pool, layer, settings.bf16)


def _baseline(settings: Settings, its_task: Task, unit: Unit) -> Result:
    evaluation = settings.evaluation
    k = settings.min_length
    train_on = examples_of(evaluation, its_task, unit, k)
    test = test_of(evaluation, unit.task, k)
    fit = {"kmers": kmer_baseline, "one_hot": one_hot_baseline}[unit.model]
    found = fit(train_on, test, its_task.kind, len(its_task.classes))
    return Result(
        unit, score(found.logits, test.labels, its_task.kind), float("nan"), 0.0, found.settings
    )


def _zero_shot(settings: Settings, its_task: Task, unit: Unit) -> Result:
    """Likelihood a base as the score of class 1 against class 0; whichever way it points."""
    from cmgems.inference.likelihood import pseudo_log_likelihood

    source = settings.source(unit.model)
    test = test_of(settings.evaluation, unit.task, source.k)
    model = language_model(source, unit.seed).to(settings.device)
    likelihood = np.array(
        [pseudo_log_likelihood(model, source.k, test.sequence(i)).mean for i in range(len(test))]
    )
    logits = np.stack([np.zeros(len(test)), likelihood - np.median(likelihood)], 1)
    return Result(unit, score(logits, test.labels, its_task.kind), float("nan"), 0.0, {})
