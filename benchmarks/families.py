"""Rows of `bench_train.py` for encoders of every family: each against the same model elsewhere, and
all against the speed of matrix products."""

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from contestants import Contestant, experiment_of, ours, peer, race, take_turns
from peers import plain, sdpa

from cmgems.config.schema import Experiment
from cmgems.cost.device import REPEATS, SIDE
from cmgems.cost.flops import flops_per_token
from cmgems.cost.plan import estimate_windows
from cmgems.models.build import encoder_config
from cmgems.models.linear import linear

PRODUCT = "matrix product"
TWO_LAYERS = {"num_layers": 2}


class Family(NamedTuple):
    """A model and the windows of a step."""

    preset: str
    windows: int
    build: Callable[[Experiment], torch.nn.Module]  # of the peer
    data: dict[str, Any]
    model: dict[str, Any]

    def experiment(
        self, full_length_fraction: float = 1.0, precision: str = "32-true"
    ) -> Experiment:
        return experiment_of(
            self.preset,
            self.windows,
            full_length_fraction,
            self.data,
            self.model,
            precision=precision,
        )


BASES = {"tokenization": "bases"}  # windows of 510: 512 tokens
SIX_MERS = {"tokenization": "nonoverlapping", "window_length": 3060}  # 512 tokens
BYTE_PAIRS = {"tokenization": "bpe", "window_length": 700}  # about 130 tokens, as DNABERT-2 has
FAMILIES = {
    "logo": Family("logo", 8, sdpa, {}, {}),
    "bases-logo": Family("logo", 8, sdpa, BASES, {}),
    "nt-v2": Family("nucleotide-transformer-v2", 8, plain, SIX_MERS, TWO_LAYERS),
    "dnabert2": Family("dnabert2", 16, plain, BYTE_PAIRS, TWO_LAYERS),
    "modern": Family("modern", 8, sdpa, BASES, {}),
    "conv": Family("conv", 16, plain, BASES, {}),
    "conv_attention": Family("conv_attention", 16, plain, BASES, {}),
}


def conv(rounds: int) -> None:
    """Convolutions, 16 windows of 512 bases; wanted: 2.0 (float32), 1.5 times (bf16).

    In float32 also 50 % of the matrix product and 20,000 bases per second and core.
    """
    for name in ("conv", "conv_attention"):
        print(f"  {name}")
        _race(FAMILIES[name], rounds)
    _shares(["conv", "conv_attention"], rounds)


def bases_logo(rounds: int) -> None:
    """LOGO on single bases, 8 windows of 512; wanted: 2.0 (float32), 1.5 times (bf16)."""
    _race(FAMILIES["bases-logo"], rounds)


def nt_v2(rounds: int) -> None:
    """Two layers of Nucleotide Transformer v2 50M, 8 windows of 512 6-mers; wanted: 2.0 and 1.5."""
    _race(FAMILIES["nt-v2"], rounds)


def dnabert2(rounds: int) -> None:
    """Two layers of DNABERT-2, 16 windows of 700 bases in byte pairs; wanted: 2.0 and 1.5."""
    _race(FAMILIES["dnabert2"], rounds)


def modern(rounds: int) -> None:
    """Preset modern on bases, 8 windows of 512 and of DNABERT's length mix; wanted: 2.0 and 1.5."""
    for full_length_fraction in (1.0, 0.5):
        print(f"  {full_length_fraction:.0%} of the windows at full length")
        _race(FAMILIES["modern"], rounds, full_length_fraction)


def families(rounds: int) -> None:
    """Share of the matrix product's speed in float32; wanted: each within 15 % of logo's."""
    _shares(list(FAMILIES), rounds)


def _race(family: Family, rounds: int, full_length_fraction: float = 1.0) -> None:
    """The peer first and then ours, in float32 and, in a race of its own, in bf16."""
    for precision in ("32", "bf16"):
        experiment = family.experiment(full_length_fraction, precision)
        bf16 = precision == "bf16"
        name = "bf16" if bf16 else "float32"
        rival = peer(f"peer, {name}", experiment, bf16=bf16, build=family.build)
        race([rival, ours(f"cmgems, {name}", experiment)], rounds)


def _shares(names: list[str], rounds: int) -> None:
    """Useful FLOPs per second (`cmgems.cost.flops`) over those of a large product, in float32; the
    medians of rounds in turn."""
    experiments = {name: FAMILIES[name].experiment() for name in names}
    contestants = [ours(name, experiment) for name, experiment in experiments.items()]
    speeds = take_turns([product(), *contestants], rounds)
    rate = statistics.median(speeds.pop(PRODUCT))
    threads = torch.get_num_threads()
    print(f"  {PRODUCT:<24}{rate / threads / 1e9:>12,.1f} GFLOP/s per thread, float32")
    shares = {
        name: statistics.median(speeds[name]) * step_flops(experiment) / rate
        for name, experiment in experiments.items()
    }
    first = names[0]
    for name, share in shares.items():
        print(
            f"  {name:<24}{statistics.median(speeds[name]) / threads:>12,.0f} tokens/s per thread, "
            f"{share:.0%} of the product, {share / shares[first]:.2f} times {first}'s share"
        )


def step_flops(experiment: Experiment) -> float:
    """Useful FLOPs of a training step, per token."""
    windows = estimate_windows(experiment)
    return flops_per_token(
        encoder_config(experiment), windows.mean_length_per_token, windows.masked_fraction
    )


def product() -> Contestant:
    """Large products in float32, which count their FLOPs in the place of tokens."""
    side = SIDE["cpu"]
    a, b = torch.ones(side, side), torch.ones(side, side)

    @torch.no_grad()
    def step(number: int) -> int:
        for _ in range(REPEATS):
            linear(a, b)
        return REPEATS * 2 * side**3

    return Contestant(PRODUCT, lambda number: number, step)


FAMILY_ROWS = {
    "conv": conv,
    "bases-logo": bases_logo,
    "nt-v2": nt_v2,
    "dnabert2": dnabert2,
    "modern": modern,
    "families": families,
}
