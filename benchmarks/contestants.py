"""Who takes part in `bench_train.py`, and the race between them."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from peers import eager

from cmgems.config.encoders import Model
from cmgems.config.schema import Data, Experiment, Train
from cmgems.data_modules.pretraining import GenomeDataModule
from cmgems.data_modules.windows import WindowBatch
from cmgems.genome.cache import load_genome
from cmgems.genome.genome import Genome
from cmgems.tokenization.base import CLS, SEP
from cmgems.tokenization.hf import fast_tokenizer
from cmgems.training.masks import build_masker, load_difficulty
from cmgems.training.module import Pretraining
from cmgems.training.optim import build_optimizer


class Contestant(NamedTuple):
    name: str
    prepare: Callable[[int], Any]  # number of the step -> its input; not timed
    step: Callable[[Any], int]  # that input -> real tokens that it took


Speeds = dict[str, list[float]]  # name of a contestant -> tokens per second of each round


def race(contestants: list[Contestant], rounds: int, device: str = "cpu") -> Speeds:
    """Interleaved rounds; each contestant against the first."""
    speeds = take_turns(contestants, rounds, device)
    best_of_first, median_of_first = _best_and_median(speeds[contestants[0].name])
    for name, of_one in speeds.items():
        best, median = _best_and_median(of_one)
        print(
            f"  {name:<24}{best:>12,.0f} tokens/s best{median:>12,.0f} median"
            f"{best / best_of_first:>8.2f} and {median / median_of_first:.2f} times the first"
        )
    return speeds


def take_turns(contestants: list[Contestant], rounds: int, device: str = "cpu") -> Speeds:
    """Interleaved rounds."""
    speeds: Speeds = {each.name: [] for each in contestants}
    for number in range(rounds + 2):
        for each in contestants:
            given = each.prepare(number)
            wait(device)
            start = time.perf_counter()
            tokens = each.step(given)
            wait(device)
            if number > 1:  # the first rounds compile and allocate
                speeds[each.name].append(tokens / (time.perf_counter() - start))
    return speeds


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _best_and_median(speeds: list[float]) -> tuple[float, float]:
    return max(speeds), statistics.median(speeds)


def experiment_of(
    preset: str,
    windows: int,
    full_length_fraction: float,
    data: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    **train: Any,
) -> Experiment:
    return Experiment(
        data=Data(full_length_fraction=full_length_fraction, **data or {}),
        model=Model(preset=preset, **model or {}),
        train=Train(global_batch_size=windows, micro_batch_size=windows, **train),
    )


def data_of(experiment: Experiment) -> tuple[Genome, GenomeDataModule]:
    genome = load_genome(experiment.data.genome)
    return genome, GenomeDataModule(experiment, genome)


def ours(name: str, experiment: Experiment, device: str = "cpu") -> Contestant:
    """Windows, masks, forward, backward, clipping and AdamW, without Lightning."""
    genome, data = data_of(experiment)
    masker = build_masker(experiment, data, load_difficulty(experiment, genome))
    module = Pretraining(experiment, masker).to(device)
    if device == "cuda":
        module.compile_step()
    optimizer = build_optimizer(module.model, experiment.optim)
    windows = experiment.train.micro_batch_size

    def step(number: int) -> int:
        batch = _batch(data, number, windows)
        module.training_step(batch.to(device), number).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), experiment.optim.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        return sum(batch.content_tokens(data.tokenization)) + 2 * windows

    return Contestant(name, lambda number: number, step)


def _batch(data: GenomeDataModule, number: int, windows: int) -> WindowBatch:
    """As a run gets it: with token ids, where the host encodes."""
    return data.on_before_batch_transfer(data.windows.batch(number * windows, windows), 0)


def peer(
    name: str,
    experiment: Experiment,
    device: str = "cpu",
    bf16: bool = False,
    compiled: bool = False,
    build: Callable[[Experiment], torch.nn.Module] = eager,
) -> Contestant:
    """The model that `build` makes (`peers`) on the same windows, padded and masked by the
    collator of transformers."""
    from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

    _, data = data_of(experiment)
    tokenization = data.tokenization
    model = build(experiment).to(device).train()
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=experiment.optim.learning_rate)
    special = {"pad_token": "[PAD]", "mask_token": "[MASK]", "unk_token": "[UNK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=fast_tokenizer(tokenization), **special)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    windows = experiment.train.micro_batch_size

    def prepare(number: int) -> list[dict]:
        batch = _batch(data, number, windows)
        ids_BK = batch.ids_BK
        if ids_BK is None:
            ids_BK = tokenization.encode(batch.codes_BL, batch.bases)
        return [
            {"input_ids": [CLS, *ids[:tokens].tolist(), SEP]}
            for ids, tokens in zip(ids_BK, batch.content_tokens(tokenization), strict=True)
        ]

    def step(examples: list[dict]) -> int:
        batch = {key: value.to(device) for key, value in collator(examples).items()}
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss = forward(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), experiment.optim.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        return sum(len(example["input_ids"]) for example in examples)

    return Contestant(name, prepare, step)
