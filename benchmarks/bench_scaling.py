"""Weak scaling: measured over 1 and 2 processes on this machine, modelled for many GPUs.

    python benchmarks/bench_scaling.py [--preset logo] [--rounds 3]
    python benchmarks/bench_scaling.py --model-only [--flops 400e12] [--network 50e9]

Measured: `cmgems pretrain` with the same windows per process and step on one process, on two, and
as two runs at once that know nothing of each other, one thread each, in turns; tokens per second of
training, from results.json. Everything that a run does in a step is included. Two runs share only
the machine: what they lose is lost to the machine, what two processes lose beyond it is lost to the
framework. The best round of each counts: whatever else the machine does only slows it down.

Modelled (`step_time`): what a step of data parallelism takes on n GPUs, from the FLOPs and bytes of
the encoder and the rates that are given as options. It is arithmetic on assumptions, and says so.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from cmgems.config.encoders import Model
from cmgems.config.schema import Experiment, Train
from cmgems.cost.flops import flops_per_token, parameters
from cmgems.cost.plan import estimate_windows
from cmgems.models.build import encoder_config

EXPERIMENT = Path(__file__).parent.parent / "experiments/pretrain/random.yaml"
GPUS = (1, 8, 16, 32, 64, 128, 256, 512)
BACKWARD = 2 / 3  # of the time of a step: what a sum of gradients can hide behind
LAST_BUCKET = 25e6  # bytes; DDP's bucket size: the last sum begins when the backward pass is over


class Hardware(NamedTuple):
    """What is assumed of a GPU and its links."""

    flops: float  # FLOPs per second that training reaches, not the data sheet's
    node: int  # GPUs of a machine
    inside: float  # bytes per second of each GPU to the others of its machine
    network: float  # bytes per second of each GPU to other machines
    latency: float  # seconds of each of the 2 log2(n) rounds of a sum


class StepTime(NamedTuple):
    """Seconds."""

    compute: float
    sums: float  # of gradients over all GPUs
    exposed: float  # the part of them that no arithmetic hides

    @property
    def efficiency(self) -> float:
        """Tokens per second and GPU, against one GPU alone."""
        return self.compute / (self.compute + self.exposed)


def step_time(flops: float, gradient_bytes: float, gpus: int, hardware: Hardware) -> StepTime:
    """A step of data parallelism: arithmetic, and the sum of gradients over all GPUs.

    A sum sends each byte twice, once to add up and once to tell: inside a machine first, then over
    the network, where each GPU of a machine carries its share. Sums of early buckets run beside
    the rest of the backward pass; the last bucket's cannot.
    """
    compute = flops / hardware.flops
    if gpus == 1:
        return StepTime(compute, 0.0, 0.0)
    near = min(gpus, hardware.node)
    machines = gpus // near
    seconds_a_byte = 2 * (near - 1) / near / hardware.inside
    if machines > 1:
        seconds_a_byte += 2 * (machines - 1) / machines / near / hardware.network
    latency = 2 * (gpus - 1).bit_length() * hardware.latency
    last = min(LAST_BUCKET, gradient_bytes) * seconds_a_byte + latency
    sums = gradient_bytes * seconds_a_byte + latency
    exposed = last + max(0.0, sums - last - BACKWARD * compute)
    return StepTime(compute, sums, exposed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="logo", choices=("small", "logo", "dnabert"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--windows", type=int, default=8, help="windows per process and step")
    parser.add_argument("--model-only", action="store_true", help="measure nothing")
    parser.add_argument(
        "--flops", type=float, default=400e12, help="per second, reached by training"
    )
    parser.add_argument("--node", type=int, default=8, help="GPUs of a machine")
    parser.add_argument("--inside", type=float, default=400e9, help="bytes per second in a machine")
    parser.add_argument("--network", type=float, default=50e9, help="bytes per second and GPU")
    parser.add_argument("--latency", type=float, default=10e-6, help="seconds a round")
    args = parser.parse_args()
    if not args.model_only:
        report_measured(args)
    hardware = Hardware(args.flops, args.node, args.inside, args.network, args.latency)
    for preset, windows in (("logo", 256), ("dnabert", 32)):
        report_model(preset, windows, hardware)


def report_measured(args: argparse.Namespace) -> None:
    contestants = {"1 process": (1, 1), "2 processes": (2, 1), "2 runs at once": (1, 2)}
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(args.rounds):
        for name, (processes, runs) in contestants.items():
            speeds[name].append(tokens_per_second(args, processes, runs))
    best = {name: max(rounds) for name, rounds in speeds.items()}
    print(f"measured: {args.preset}, {args.windows} windows per process and step, 1 thread each")
    for name, speed in best.items():
        ratio = f", {speed / best['1 process'] / 2:.1%} of twice one process" * (
            name != "1 process"
        )
        print(f"  {name:15}{speed:>9,.0f} tokens per second (best of {args.rounds}){ratio}")
    print()


def tokens_per_second(args: argparse.Namespace, processes: int, runs: int) -> float:
    """Of all runs together, which are started at once."""
    with tempfile.TemporaryDirectory() as parent:
        folders = [Path(parent) / str(run) for run in range(runs)]
        started = [start(args, processes, folder) for folder in folders]
        errors = [run.communicate()[1] for run in started]  # none outlives the folder
        if any(run.returncode for run in started):
            sys.exit("".join(errors))
        results = [json.loads((folder / "results.json").read_text()) for folder in folders]
    return sum(result["tokens_per_second"] for result in results)


def start(args: argparse.Namespace, processes: int, folder: Path) -> subprocess.Popen:
    overrides = {
        "model.preset": args.preset,
        "train.accelerator": "cpu",
        "train.devices": processes,
        "train.micro_batch_size": args.windows,
        "train.global_batch_size": args.windows * processes,
        "train.max_steps": args.steps,
        "validation.every_n_steps": args.steps,
        "validation.windows": 8,
        "validation.final_windows": 8,
        "optim.warmup_steps": 5,
        "run.dir": folder,
    }
    command = [sys.executable, "-m", "cmgems", "pretrain", str(EXPERIMENT)]
    command += [f"{key}={value}" for key, value in overrides.items()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def report_model(preset: str, windows: int, hardware: Hardware) -> None:
    experiment = Experiment(model=Model(preset=preset), train=Train())
    shape, lengths = encoder_config(experiment), estimate_windows(experiment)
    tokens = windows * lengths.mean_length
    flops = tokens * flops_per_token(shape, lengths.mean_length_per_token, lengths.masked_fraction)
    gradient_bytes = 4 * parameters(shape)
    print(
        f"modelled, not measured: {preset}, {windows} windows per GPU and step, "
        f"{gradient_bytes / 1e6:,.0f} MB of gradients"
    )
    print(
        f"  assumed: {hardware.flops / 1e12:,.0f} TFLOP/s, {hardware.node} GPUs a machine, "
        f"{hardware.inside / 1e9:,.0f} GB/s inside, {hardware.network / 1e9:,.0f} GB/s per GPU "
        f"outside, {hardware.latency * 1e6:.0f} us a round"
    )
    print(f"  {'GPUs':>6}{'arithmetic':>12}{'sums':>10}{'exposed':>10}{'efficiency':>12}")
    for gpus in GPUS:
        time = step_time(flops, gradient_bytes, gpus, hardware)
        print(
            f"  {gpus:>6}{time.compute * 1e3:>9.2f} ms{time.sums * 1e3:>7.2f} ms"
            f"{time.exposed * 1e3:>7.2f} ms{time.efficiency:>12.1%}"
        )
    print()


if __name__ == "__main__":
    main()
