"""Parts of `gpu_check.py` that hold a computation against itself: side by side, on two ranks."""

import tempfile
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from contestants import data_of, experiment_of, wait
from torch.nn.parallel import DistributedDataParallel

from cmgems.config.encoders import PRESETS
from cmgems.data_modules.classification import (
    ClassificationDataModule,
    EvaluationData,
    Examples,
    TrainData,
    evaluation_loader,
)
from cmgems.data_modules.windows import WindowBatch
from cmgems.evaluation.finetuning.recipes import few_shot_recipe
from cmgems.evaluation.finetuning.train import Classifiers, FineTuneConfig, predict_logits, train
from cmgems.models.encoder import Encoder, EncoderConfig
from cmgems.tasks.dataset import pack_codes
from cmgems.tasks.tokens import tokenize
from cmgems.tokenization import OverlappingKmers
from cmgems.training.masks import build_masker, load_difficulty
from cmgems.training.module import Pretraining

SHOTS, BASES, WINDOWS = 10, 70, 4
RANKS = 2
Row = dict[str, Any]


def side_by_side(device: str, models: int, epochs: int, shrink: dict[str, Any]) -> list[Row]:
    """Few-shot classifiers of LOGO trained as one computation, and each alone."""
    tokenization = OverlappingKmers(6)
    config = EncoderConfig(**PRESETS["logo"] | shrink, vocab_size=tokenization.vocab_size)
    torch.manual_seed(0)
    encoder = Encoder(config).to(device)
    codes = np.random.default_rng(0).integers(0, 4, (2 * SHOTS, BASES), np.uint8)
    examples = Examples(tokenize(pack_codes(list(codes)), tokenization, 512))
    recipe = replace(few_shot_recipe(SHOTS), epochs=epochs)

    def trained(seeds: list[int]) -> tuple[torch.Tensor, float]:
        start = time.perf_counter()
        model = Classifiers([encoder] * len(seeds), FineTuneConfig("cls"), seeds)
        rows_GN = np.tile(np.arange(len(codes)), (len(seeds), 1))
        data = TrainData(examples, torch.arange(len(codes)) % 2, rows_GN, seeds)
        train(model, ClassificationDataModule(data, recipe.batch_size), recipe)
        logits = predict_logits(model, evaluation_loader(EvaluationData(examples)))
        wait(device)
        return logits, time.perf_counter() - start

    trained([0])  # what is loaded and allocated once
    together, seconds = trained(list(range(models)))
    alone = [trained([seed]) for seed in range(models)]
    difference = float((together - torch.cat([logits for logits, _ in alone])).abs().max())
    row = {"models": models, "seconds_together": seconds}
    row |= {"seconds_one_by_one": sum(each for _, each in alone)}
    return [row | {"largest_difference_of_logits": difference, "ok": difference < 1e-2}]


class OneStep(torch.nn.Module):
    """The loss of a batch, as DDP calls it."""

    def __init__(self, pretraining: Pretraining):
        super().__init__()
        self.pretraining = pretraining

    def forward(self, batch: WindowBatch) -> torch.Tensor:
        return self.pretraining.training_step(batch, 0)


def ranks_on_one_device(device: str, shrink: dict[str, Any]) -> list[Row]:
    """The gradient that processes have summed by gloo, and the mean of their batches' gradients."""
    with tempfile.TemporaryDirectory() as folder:
        given = (RANKS, device, shrink, f"file://{folder}/store")
        others = torch.multiprocessing.spawn(_other_rank, given, RANKS - 1, join=False)
        difference = _gradients_differ(0, *given)
        while not others.join():
            pass
    return [{"ranks": RANKS, "worst_relative_difference": difference, "ok": difference < 1e-3}]


def _other_rank(number: int, *given: Any) -> None:
    _gradients_differ(number + 1, *given)


def _gradients_differ(
    rank: int, ranks: int, device: str, shrink: dict[str, Any], store: str
) -> float:
    experiment = experiment_of("logo", WINDOWS, 1.0, model=shrink)
    genome, data = data_of(experiment)
    masker = build_masker(experiment, data, load_difficulty(experiment, genome))
    module = Pretraining(experiment, masker).to(device)

    def batch(of_rank: int) -> WindowBatch:
        return data.windows.batch(of_rank * WINDOWS, WINDOWS).to(torch.device(device))

    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks)
    try:
        shared = DistributedDataParallel(OneStep(module), broadcast_buffers=False)
        shared(batch(rank)).backward()
    finally:
        dist.destroy_process_group()
    found = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    for each in range(ranks):
        (module.training_step(batch(each), 0) / ranks).backward()
    return max(
        float((one - p.grad).norm() / p.grad.norm().clamp(min=1e-6))
        for one, p in zip(found, module.parameters(), strict=True)
    )
