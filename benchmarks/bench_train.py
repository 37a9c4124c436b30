"""Our training step against that of Hugging Face transformers, and what surrounds a step.

    python benchmarks/bench_train.py [--only ROW] [--rounds 10]

The peer is `BertForMaskedLM` (eager, dropout 0), or in the rows of `families.py` the same encoder
of another family, fed by `DataCollatorForLanguageModeling`, with AdamW and clipping of gradients;
ours is `Pretraining.training_step` on windows of the sample genome, the same clipping and AdamW.
Both get equal numbers of windows of equal lengths; masking, padding and corruption count on both
sides, cutting windows on ours, tokenising on ours (for byte pairs and non-overlapping k-mers by our
loader, else by our step) and never on the peer's. The two take turns, so that what else the machine
does falls on both; figures are real tokens per second ([CLS] and [SEP] included), best and median
of the rounds. Rows that need a GPU run where there is one, and say so where there is none.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import torch
from contestants import data_of, experiment_of, ours, peer, race
from families import FAMILY_ROWS

from cmgems.callbacks import Throughput
from cmgems.callbacks.checkpoints import RunCheckpoints, StopOnSignal
from cmgems.config.schema import Experiment
from cmgems.pretraining import (
    build_callbacks,
    build_trainer,
    find_callback,
    fit,
    silence_lightning,
)
from cmgems.runs.experiment import load
from cmgems.runs.folder import BEST, LAST, RunFolder
from cmgems.runs.io import copy_checkpoint
from cmgems.training.masks import build_masker, load_difficulty, unigram_entropy
from cmgems.training.module import Pretraining

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=ROWS, action="append", help="some rows alone")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print(f"torch {torch.__version__}, {torch.get_num_threads()} CPU threads, GPU: {gpu}")
    for name in args.only or ROWS:
        print(f"\n{name}: {ROWS[name].__doc__.splitlines()[0]}")
        ROWS[name](args.rounds)


def cpu_full(rounds: int) -> None:
    """LOGO, 8 windows of 512 tokens; wanted: 2.2 times (float32), 3.5 times (bf16) the peer."""
    _cpu_race(full_length_fraction=1.0, rounds=rounds)


def cpu_mix(rounds: int) -> None:
    """LOGO, 8 windows of DNABERT's length mix, real tokens; wanted: 2.8 and 4.5 times the peer."""
    _cpu_race(full_length_fraction=0.5, rounds=rounds)


def _cpu_race(full_length_fraction: float, rounds: int) -> None:
    plain = experiment_of("logo", 8, full_length_fraction)
    contestants = [
        peer("transformers, float32", plain),
        ours("cmgems, float32", plain),
        ours("cmgems, bf16", experiment_of("logo", 8, full_length_fraction, precision="bf16")),
        peer("transformers, bf16", plain, bf16=True),
    ]
    race(contestants, rounds)


def lightning(rounds: int) -> None:
    """Lightning and callbacks over a bare loop of the same steps; wanted: at most 3 % more time."""
    for name, overrides in (("quickstart", []), ("logo", ["model.preset=logo"])):
        bare, whole = [], []
        for _ in range(max(rounds // 4, 2)):
            bare += _bare_steps(_run_of(overrides))
            whole += _lightning_steps(_run_of(overrides))[0]
        _compare(name, "a bare step", bare, "with Lightning and callbacks", whole)


def guards(rounds: int) -> None:
    """Guards and checkpoints over the quickstart's steps without; wanted: at most 2 % more time."""
    without: list[Clocks] = []
    whole: list[Clocks] = []
    saves: list[float] = []
    inside: list[float] = []
    for _ in range(max(rounds // 2, 2)):
        without += _lightning_steps(_run_of([]), guarded=False)[0]
        whole += _lightning_steps(_run_of([]), saves=saves, inside=inside)[0]
    _compare("guards", "a step without", without, "with them", whole)
    every = load(EXPERIMENTS / "pretrain/quickstart.yaml").validation.every_n_steps
    steps = [seconds for seconds, _ in whole]
    print(
        f"  inside the guards {statistics.median(inside) * 1e6:.0f} us a call, two calls a step: "
        f"{2 * statistics.median(inside) / statistics.median(steps):+.3%} by the median"
    )
    best = min(saves) / (every * min(steps))
    median = statistics.median(saves) / (every * statistics.median(steps))
    print(
        f"  checkpoints {statistics.median(saves) * 1e3:.1f} ms for last.ckpt and best.ckpt, every "
        f"{every} steps: {best:+.2%} by the best, {median:+.2%} by the median"
    )


def _compare(
    name: str, first: str, ones: list["Clocks"], second: str, others: list["Clocks"]
) -> None:
    for clock, what in ((0, "wall clock"), (1, "processor time")):
        a, b = (sorted(each[clock] for each in steps) for steps in (ones, others))
        best, median = b[0] / a[0], statistics.median(b) / statistics.median(a)
        print(
            f"  {name:<12}{what:<16}{statistics.median(a) * 1e3:>8.1f} ms {first},"
            f"{statistics.median(b) * 1e3:>8.1f} ms {second}:"
            f" {best - 1:+.1%} by the best, {median - 1:+.1%} by the median"
        )


def data(rounds: int) -> None:
    """Share of the step that waits for windows; wanted: at most 1 %."""
    for name, overrides in (("quickstart", []), ("logo", ["model.preset=logo"])):
        fraction = statistics.median(
            _lightning_steps(_run_of(overrides))[1] for _ in range(max(rounds // 4, 1))
        )
        print(f"  {name:<12}{fraction:.2%}")


STEPS = 24  # of a run for `lightning` and `data`; the first are left out
LEFT_OUT = 4


def _run_of(overrides: list[str]) -> Experiment:
    # No validation but the first, which is not timed.
    steps = [
        f"train.max_steps={STEPS}",
        f"validation.every_n_steps={STEPS}",
        "validation.windows=1",
        "validation.final_windows=1",
    ]
    settings = [*steps, "optim.warmup_steps=2", *overrides]
    return load(EXPERIMENTS / "pretrain/quickstart.yaml", settings)


Clocks = tuple[float, float]  # wall clock and processor time, seconds


def clocks() -> Clocks:
    return time.perf_counter(), time.process_time()


def _steps(begins: list[Clocks]) -> list[Clocks]:
    """How long each step but the first ones took."""
    lasted = [(end[0] - begin[0], end[1] - begin[1]) for begin, end in pairwise(begins)]
    return lasted[LEFT_OUT:]


def _bare_steps(experiment: Experiment) -> list[Clocks]:
    """Each step of a loop without Lightning."""
    contestant = ours("bare", experiment)
    begins = [clocks()]
    for number in range(STEPS - 1):
        contestant.step(number)
        begins.append(clocks())
    return _steps(begins)


class StepTimes(L.Callback):
    """When each batch began."""

    def __init__(self) -> None:
        self.begins: list[Clocks] = []

    def on_train_batch_start(self, *_) -> None:
        self.begins.append(clocks())


def _lightning_steps(
    experiment: Experiment,
    guarded: bool = True,
    saves: list[float] | None = None,
    inside: list[float] | None = None,
) -> tuple[list[Clocks], float]:
    """Each step of the run that `cmgems pretrain` makes, and the fraction of time spent on data.

    Not guarded: without what looks for signals and for gradients that are not finite, and without
    checkpoints. To `saves` go the seconds that its checkpoints take, to `inside` those of guards.
    """
    silence_lightning()
    genome, windows = data_of(experiment)
    table = load_difficulty(experiment, genome)
    module = Pretraining(experiment, build_masker(experiment, windows, table))
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        run.checkpoints.mkdir()
        times = StepTimes()
        entropy = unigram_entropy(table, genome, module.masker.tokenization)
        parts = [times, *build_callbacks(experiment, run, table, entropy)]
        if not guarded:
            parts = [part for part in parts if not isinstance(part, RunCheckpoints | StopOnSignal)]
            module.check_finite = lambda: None
        if inside is not None:
            stop = find_callback(StopOnSignal, parts)
            stop.on_train_batch_end = _timed(stop.on_train_batch_end, inside)
            module.check_finite = _timed(module.check_finite, inside)
        trainer = build_trainer(experiment, "cpu", run, parts, step=-1, identity={})
        trainer.progress_bar_callback.disable()
        fit(trainer, module, windows, run)
        if saves is not None:
            saves += [_save_seconds(trainer, run.checkpoints) for _ in range(5)]
    return _steps(times.begins), find_callback(Throughput, parts).results()["fraction_data"]


def _timed(function: Callable[..., None], seconds: list[float]) -> Callable[..., None]:
    def call(*arguments: Any) -> None:
        begin = time.perf_counter()
        function(*arguments)
        seconds.append(time.perf_counter() - begin)

    return call


def _save_seconds(trainer: L.Trainer, folder: Path) -> float:
    begin = time.perf_counter()
    trainer.save_checkpoint(folder / LAST)
    copy_checkpoint(folder / LAST, folder / BEST)
    return time.perf_counter() - begin


# The process says when its first optimizer step is done, and ends.
FIRST_STEP = """
import os, sys
import lightning as L
from cmgems.runs.experiment import load
from cmgems.pretraining import pretrain

class Stop(L.Callback):
    def on_train_batch_end(self, *_):
        os._exit(0)

pretrain(load(sys.argv[1], sys.argv[2:]), callbacks=[Stop()])
"""


def start(rounds: int) -> None:
    """From the command to the first step on a built store, and `--help`; wanted: 10 s and 0.5 s."""
    command = [sys.executable, "-m", "cmgems", "--help"]
    print(f"  cmgems --help                 {_process_seconds([command] * 5)}")
    with tempfile.TemporaryDirectory() as folder:
        experiment = str(EXPERIMENTS / "pretrain/quickstart.yaml")
        repeats = range(max(rounds // 3, 3) + 1)
        commands = [
            [sys.executable, "-c", FIRST_STEP, experiment, f"run.dir={folder}/{n}"] for n in repeats
        ]
        print(f"  first step, nothing cached yet  {_process_seconds(commands[:1])}")
        print(f"  first step, a later run       {_process_seconds(commands[1:])}")


def _process_seconds(commands: list[list[str]]) -> str:
    times, busy = [], []
    for command in commands:
        begin, before = time.perf_counter(), _children_seconds()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - begin)
        busy.append(_children_seconds() - before)
    return (
        f"{min(times):.2f} s best, {statistics.median(times):.2f} s median of {len(times)}; "
        f"processor time {statistics.median(busy):.2f} s"
    )


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def gpu(rounds: int) -> None:
    """LOGO and BERT-base in bf16 on a GPU; wanted: 2.5 and 1.8, 1.6 and 1.25 times the peer."""
    if not torch.cuda.is_available():
        print("  not run: no CUDA GPU here")
        return
    for preset, windows in (("logo", 256), ("dnabert", 64)):
        for full_length_fraction in (1.0, 0.5):
            plain = experiment_of(preset, windows, full_length_fraction)
            print(
                f"  {preset}, {windows} windows, {full_length_fraction:.0%} of them at full length"
            )
            contestants = [
                peer("transformers, eager", plain, "cuda", bf16=True),
                peer("transformers, compiled", plain, "cuda", bf16=True, compiled=True),
                ours(
                    "cmgems",
                    experiment_of(preset, windows, full_length_fraction, precision="bf16"),
                    "cuda",
                ),
            ]
            race(contestants, 3 * rounds, "cuda")


ROWS = {
    "cpu-full": cpu_full,
    "cpu-mix": cpu_mix,
    "lightning": lightning,
    "guards": guards,
    "data": data,
    "start": start,
    "gpu": gpu,
    **FAMILY_ROWS,
}

if __name__ == "__main__":
    main()
