"""Few-shot fine-tuning against a loop of Hugging Face Trainer trainings: same model, same recipe.

A LOGO-sized encoder, 70-base windows of the sample genome (the lengths of Prom-core; what the
labels are does not matter to the time), a test of 5,920 sequences, rounds A B A B. Both sides have
two cores: ours as two processes of one thread, the Trainer as one process of two threads, each as
it is fastest. Per replicate it prints wall and processor seconds, and what the whole protocol
(10 replicates x 10, 50, 100, 500, 1000 shots) comes to by the steps and tests it consists of.

    python benchmarks/bench_fewshot.py --shots 50 --rounds 2
"""

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from resource import RUSAGE_SELF, getrusage
from typing import NamedTuple

import numpy as np
import torch

from cmgems.config.encoders import PRESETS
from cmgems.data_modules.classification import (
    ClassificationDataModule,
    EvaluationData,
    Examples,
    TrainData,
    evaluation_loader,
)
from cmgems.evaluation.finetuning.recipes import few_shot_recipe
from cmgems.evaluation.finetuning.train import Classifiers, FineTuneConfig, predict_logits, train
from cmgems.models.encoder import Encoder, EncoderConfig
from cmgems.tasks.dataset import pack_codes
from cmgems.tasks.tokens import Tokens, tokenize
from cmgems.tokenization import OverlappingKmers
from cmgems.utils.cores import available_cores

BASES, TEST, K, CORES = 70, 5920, 6, 2
SHAPE = EncoderConfig(
    **PRESETS["logo"], vocab_size=OverlappingKmers(K).vocab_size, max_position_embeddings=512
)
PROTOCOL, REPLICATES = (10, 50, 100, 500, 1000), 10


class Cost(NamedTuple):
    """Seconds of a replicate, or of a part of it."""

    train: float
    test: float

    def __add__(self, other):
        return Cost(self.train + other.train, self.test + other.test)


def windows(count: int, first: int) -> Tokens:
    from cmgems.genome.cache import load_genome

    codes = load_genome("sample").codes
    rows = [np.array(codes[(first + i) * BASES : (first + i + 1) * BASES]) for i in range(count)]
    return tokenize(pack_codes(rows), OverlappingKmers(K), SHAPE.max_position_embeddings)


def labels(count: int) -> torch.Tensor:
    return torch.arange(count) % 2


def ours(shots: int, replicate: int, bf16: bool) -> Cost:
    """One replicate, in this process."""
    torch.manual_seed(replicate)
    model = Classifiers([Encoder(SHAPE)], FineTuneConfig("cls"), [replicate])
    examples, count = Examples(windows(2 * shots, 10_000 * replicate)), 2 * shots
    started = time.perf_counter()
    recipe = few_shot_recipe(shots)
    data = TrainData(examples, labels(count), np.arange(count)[None], [replicate])
    train(model, ClassificationDataModule(data, recipe.batch_size), recipe, bf16)
    trained = time.perf_counter()
    test = EvaluationData(Examples(windows(TEST, 20_000)))
    predict_logits(model, evaluation_loader(test), bf16)
    return Cost(trained - started, time.perf_counter() - trained)


def theirs(shots: int, replicate: int) -> Cost:
    """One replicate by a Trainer."""
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    torch.manual_seed(replicate)
    config = BertConfig(
        vocab_size=SHAPE.vocab_size,
        hidden_size=SHAPE.hidden_size,
        num_hidden_layers=SHAPE.num_layers,
        num_attention_heads=SHAPE.num_heads,
        intermediate_size=SHAPE.intermediate_size,
    )
    model = BertForSequenceClassification(config)
    recipe = few_shot_recipe(shots)
    steps = recipe.steps(2 * shots)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=recipe.batch_size,
            per_device_eval_batch_size=64,
            num_train_epochs=recipe.epochs,
            learning_rate=recipe.learning_rate,
            warmup_steps=recipe.warmup(steps),
            weight_decay=recipe.weight_decay,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            seed=replicate,
        )
        examples = _rows(windows(2 * shots, 10_000 * replicate))
        trainer = Trainer(model, arguments, train_dataset=examples)
        started = time.perf_counter()
        trainer.train()
        trained = time.perf_counter()
        trainer.predict(_rows(windows(TEST, 20_000)))
    return Cost(trained - started, time.perf_counter() - trained)


def _rows(tokens: Tokens) -> list[dict]:
    truth = labels(len(tokens)).tolist()
    return [
        {"input_ids": ids, "labels": label}
        for ids, label in zip(tokens.ids_NL.long(), truth, strict=True)
    ]


def begin() -> None:
    torch.set_num_threads(1)


def processor() -> float:
    used = getrusage(RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def job(shots: int, replicate: int, bf16: bool) -> tuple[Cost, float]:
    before = processor()
    return ours(shots, replicate, bf16), processor() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shots", type=int, nargs="+", default=[50, 500])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--precision", nargs="+", default=["32-true", "bf16"])
    args = parser.parse_args()
    torch.set_num_threads(CORES)
    best: dict[tuple[str, int], tuple[Cost, float]] = {}
    with ProcessPoolExecutor(CORES, get_context("spawn"), initializer=begin) as pool:
        list(pool.map(job, [10] * CORES, range(CORES), [True] * CORES))  # imports, first kernels
        for shots in args.shots:
            for _ in range(args.rounds):
                for precision in args.precision:
                    found = list(
                        pool.map(
                            job, [shots] * CORES, range(CORES), [precision != "32-true"] * CORES
                        )
                    )
                    # two replicates at a time: half of what both took is the wall time of one
                    wall = found[0][0] + found[1][0]
                    used = sum(seconds for _, seconds in found) / CORES
                    keep(best, (f"ours {precision}", shots), Cost(*(x / 4 for x in wall)), used)
                before = processor()
                cost = theirs(shots, 0)
                keep(best, ("Trainer", shots), cost, processor() - before)
    report(best, args.shots)


def keep(best: dict, place: tuple[str, int], cost: Cost, used: float) -> None:
    name, shots = place
    print(f"{name:18} {shots:5} shots  train {cost.train:7.2f} s  test {cost.test:6.2f} s  "
          f"processor {used:7.2f} s", flush=True)  # fmt: skip
    if place not in best or sum(cost) < sum(best[place][0]):
        best[place] = cost, used


def report(best: dict, shots: list[int]) -> None:
    print(f"\n{available_cores()} cores; best of the rounds, per replicate of training and test:")
    for n in shots:
        reference, used = best["Trainer", n]
        for (name, its), (cost, seconds) in best.items():
            if its == n and name != "Trainer":
                print(f"{n:5} shots: {name} {sum(cost):.1f} s, Trainer {sum(reference):.1f} s: "
                      f"{sum(reference) / sum(cost):.2f} times as fast "
                      f"({used / seconds:.2f} by processor time)")  # fmt: skip
    small, large = [n for n in shots if n <= 100], [n for n in shots if n > 100]
    if not (small and large):
        return
    for name in dict.fromkeys(name for name, _ in best):
        total = 0.0
        for n in PROTOCOL:
            like = (small if n <= 100 else large)[-1]
            cost = best[name, like][0]
            steps = few_shot_recipe(n).steps(2 * n) / few_shot_recipe(like).steps(2 * like)
            total += REPLICATES * (cost.train * steps + cost.test)
        print(f"whole protocol, by steps and tests: {name} {total / 60:.1f} minutes")


if __name__ == "__main__":
    main()
