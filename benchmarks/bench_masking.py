"""How fast masking is: tokens per second for each strategy, and the fraction of a training step.

    python benchmarks/bench_masking.py [--device cuda] [--steps 3]

What is timed is `Masker.forward`, all of it: base codes -> k-mer ids -> mask -> packing and
corruption, at 250 windows of 512 tokens ([CLS] and [SEP] included) on one thread. The strategies
take turns, so that what else the machine does falls on all of them; best and median of the rounds.
The training step is LOGO's (2 layers, width 256), forward, backward and AdamW, on the same batch.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from cmgems.config.encoders import Model
from cmgems.config.schema import Experiment
from cmgems.data_modules.sampling import GenomeShare, sample_windows
from cmgems.data_modules.windows import WindowBatch
from cmgems.difficulty.markov_bits import genome_markov_bits
from cmgems.difficulty.pmi import compute_pmi_table
from cmgems.difficulty.table import rank_scores
from cmgems.genome.cache import load_genome
from cmgems.genome.spans import unambiguous_spans
from cmgems.masking.masker import Masker
from cmgems.masking.rates import CenterRates
from cmgems.masking.strategies import STRATEGIES
from cmgems.models.build import build_model
from cmgems.tokenization import OverlappingKmers
from cmgems.training.optim import adamw
from cmgems.utils.kernels import force_torch_path
from cmgems.utils.rng import derive_key, sequence_keys

K, BASES = 6, 515  # 510 tokens, 512 with [CLS] and [SEP]
WANTED = 50e6  # tokens per second on one CPU thread
WANTED_FRACTION = 0.02  # of a training step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--steps", type=int, default=3, help="training steps; 0: none")
    args = parser.parse_args()
    device = torch.device(args.device)
    masker, batch = set_up(device)
    torch.set_num_threads(1)
    large = time_all(masker, batch, args.rounds, device)
    print(f"\n250 windows of 512 tokens, {device}, one thread; million tokens per second")
    report(large, count_tokens(batch))
    small = first_windows(batch, 10)
    print("\n10 windows of 512 tokens")
    report(time_all(masker, small, 8 * args.rounds, device), count_tokens(small))
    if device.type == "cpu":
        with force_torch_path():
            slow = time_all(masker, batch, max(args.rounds // 8, 2), device)
        print("\n250 windows, the tensor code that other devices take, on this CPU")
        report(slow, count_tokens(batch))
    if args.steps:
        step = training_step(masker, batch, args.steps, device)
        slowest = max(statistics.median(times) for times in large.values())
        fraction = slowest / step
        print(f"\nLOGO's training step on it, {torch.get_num_threads()} thread: {step:.3f} s")
        print(
            f"the slowest strategy takes {fraction:.2%} of it, "
            f"wanted: less than {WANTED_FRACTION:.0%}"
        )


def set_up(device: torch.device) -> tuple[Masker, WindowBatch]:
    genome = load_genome("sample")
    whole = [GenomeShare(unambiguous_spans(genome.codes))]
    codes = sample_windows(genome.codes, whole, 1024, BASES)
    codes_BL = torch.from_numpy(codes)
    rank_V = torch.from_numpy(compute_pmi_table(genome, K).rank)
    masker = Masker(
        OverlappingKmers(K),
        rank_V,
        CenterRates(
            OverlappingKmers(K).encode(codes_BL),
            rank_V,
            OverlappingKmers(K),
            markov_rank_V=torch.from_numpy(rank_scores(genome_markov_bits(genome, K))),
        ),
    ).to(device)
    keys_B2 = torch.from_numpy(sequence_keys(derive_key(0, "bench"), np.arange(250)))
    return masker, WindowBatch(codes_BL[-250:].to(device), (BASES,) * 250, keys_B2.to(device))


def first_windows(batch: WindowBatch, count: int) -> WindowBatch:
    return WindowBatch(batch.codes_BL[:count], batch.bases[:count], batch.keys_B2[:count])


def count_tokens(batch: WindowBatch) -> int:
    return sum(bases - K + 3 for bases in batch.bases)


def time_all(
    masker: Masker, batch: WindowBatch, rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each round by strategy; the first call of each, which compiles, is left out."""
    times: dict[str, list[float]] = {name: [] for name in STRATEGIES}
    for name in STRATEGIES:
        masker(batch, name)
    for _ in range(rounds):
        for name, seconds_per_round in times.items():
            seconds_per_round.append(seconds(lambda name=name: masker(batch, name), device))
    return times


def seconds(work: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def report(times: dict[str, list[float]], tokens: int) -> None:
    print(f"  {'strategy':<16}{'best':>8}{'median':>8}")
    for name, seconds_per_round in times.items():
        best, median = (
            tokens / t for t in (min(seconds_per_round), statistics.median(seconds_per_round))
        )
        slow = "" if best >= WANTED else f"  below {WANTED / 1e6:.0f}"
        print(f"  {name:<16}{best / 1e6:>8.1f}{median / 1e6:>8.1f}{slow}")


def training_step(masker: Masker, batch: WindowBatch, steps: int, device: torch.device) -> float:
    """Best seconds of a step on the batch, 10 windows at a time, without masking."""
    experiment = Experiment(model=Model(preset="logo"))
    model = build_model(experiment).to(device)
    optimizer = adamw(list(model.parameters()), experiment.optim)
    parts = [
        WindowBatch(batch.codes_BL[i : i + 10], batch.bases[:10], batch.keys_B2[i : i + 10])
        for i in range(0, 250, 10)
    ]
    masked = [masker(part, "random") for part in parts]

    def step() -> None:
        for part in masked:
            logits = model(part.ids_T, part.layout, part.at_M)
            F.cross_entropy(logits, part.targets_M).div(len(masked)).backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    return min(seconds(step, device) for _ in range(steps))


if __name__ == "__main__":
    main()
