"""Is everything right on this GPU, and how fast is it? One JSON and one Markdown table.

The parts come in the order of what matters most. What is done is written after each, so that the
results are whole wherever the script is cut; no part begins that would not end within the time.
With --rehearse every part runs at a shrunken size on a CPU: nothing there says how fast a GPU is.
"""

import argparse
import json
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from contestants import Contestant, data_of, experiment_of, ours, peer, take_turns, wait
from gpu_parts import ranks_on_one_device, side_by_side
from peers import sdpa
from torch.nn.attention import SDPBackend, sdpa_kernel

from cmgems.config.schema import Experiment
from cmgems.cost.device import measure_matmul_speed, peak_memory
from cmgems.cost.flops import flops_per_token
from cmgems.cost.plan import estimate_memory, estimate_windows, planned_encoder
from cmgems.errors import RunStopped
from cmgems.masking.strategies import STRATEGIES
from cmgems.pretraining import pretrain
from cmgems.runs.experiment import load
from cmgems.training.masks import build_masker, load_difficulty
from cmgems.training.module import Pretraining
from cmgems.utils.files import atomic_write
from cmgems.utils.kernels import force_torch_path


class Size(NamedTuple):
    """What is tried, and on what."""

    device: str
    windows: tuple[int, ...]  # of LOGO's steps
    base_windows: int  # of BERT-base's
    rounds: int
    steps: int  # of the run that is resumed half-way
    shrink: dict[str, Any]  # keys of every model
    strategies: tuple[str, ...]
    families: tuple[str, ...]
    models: int  # that are fine-tuned side by side
    epochs: int  # of fine-tuning


EXPERIMENT = Path(__file__).parents[1] / "experiments/pretrain/cm_gems.yaml"
TINY = {"hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "num_layers": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "logo": {},
    "modern": {"tokenization": "bases"},
    "nucleotide-transformer-v2": {"tokenization": "nonoverlapping"},
    "conv": {"tokenization": "bases"},
}
REAL = Size("cuda", (25, 250), 64, 20, 200, {}, tuple(STRATEGIES), tuple(FAMILIES), 10, 20)
REHEARSAL = Size("cpu", (2,), 2, 1, 4, TINY, ("random", "global_pmi"), ("modern",), 2, 1)
Row = dict[str, Any]


def agreement(size: Size) -> list[Row]:
    """Masks bit for bit, loss and gradients in float32, of the device and of a CPU."""
    experiment = experiment_of("logo", 4, 0.5, model=size.shrink)
    genome, data = data_of(experiment)
    table = load_difficulty(experiment, genome)
    here, there = (
        Pretraining(experiment, build_masker(experiment, data, table, size.strategies))
        for _ in range(2)
    )
    there.to(size.device)
    batch, rows = data.windows.batch(0, 4), []
    for name in size.strategies:
        mask_BK = here.masker(batch, name).mask_BK
        with force_torch_path():
            found_BK = there.masker(batch.to(torch.device(size.device)), name).mask_BK
        rows.append({"check": f"masks of {name}", "ok": torch.equal(mask_BK, found_BK.cpu())})
    losses = [module.training_step(batch.to(module.device), 0) for module in (here, there)]
    for loss in losses:
        loss.backward()
    one, two = (float(loss.detach()) for loss in losses)
    rows.append({"check": "loss", "cpu": one, "device": two, "ok": abs(one - two) < 1e-4 * one})
    worst = max(
        float((p.grad - q.grad.cpu()).norm() / p.grad.norm().clamp(min=1e-6))
        for p, q in zip(here.parameters(), there.parameters(), strict=True)
    )
    rows.append({"check": "gradients", "worst_relative_difference": worst, "ok": worst < 1e-3})
    return rows


def families(size: Size) -> list[Row]:
    """One step of each family, forward and backward, with its graphs where it is compiled."""
    rows = []
    for preset in size.families:
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        experiment = experiment_of(preset, 4, 1.0, FAMILIES[preset], size.shrink, precision="bf16")
        contestant = ours(preset, experiment, size.device)
        tokens = [contestant.step(number) for number in range(2)]
        wait(size.device)
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        rows.append({"family": preset, "tokens": sum(tokens), "graphs": graphs, "ok": graphs <= 8})
    return rows


def speed(size: Size) -> list[Row]:
    """Tokens per second of a step, the part of the products' speed, memory against the plan."""
    device, rows = torch.device(size.device), []
    products = measure_matmul_speed(device, torch.bfloat16)
    cases = [("logo", n) for n in size.windows] + [("dnabert", size.base_windows)]
    for preset, windows in cases:
        experiment = experiment_of(preset, windows, 1.0, model=size.shrink, precision="bf16")
        contestants = {"cmgems": lambda e=experiment: ours("cmgems", e, size.device)}
        if preset == "logo":
            for name, keys in {
                "transformers, eager attention": {},
                "transformers, compiled": {"compiled": size.device == "cuda"},
                "transformers, sdpa": {"build": sdpa},
            }.items():
                contestants[name] = lambda n=name, k=keys, e=experiment: peer(
                    n, e, size.device, bf16=True, **k
                )
            contestants["transformers, flash attention"] = lambda e=experiment: flash(
                peer("transformers, flash attention", e, size.device, bf16=True, build=sdpa)
            )
        for name, make in contestants.items():  # one after the other: each has the memory alone
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            row = {"model": preset, "windows": windows, "of": name}
            try:
                speeds = take_turns([make()], size.rounds, size.device)
            except RuntimeError as error:
                if name == "cmgems":
                    raise
                rows.append(row | {"error": str(error)[:200], "ok": True})  # others are not judged
                continue
            tokens_per_second = max(next(iter(speeds.values())))
            row |= {"tokens_per_second": round(tokens_per_second)}
            if name == "cmgems":
                expected = estimate_windows(experiment)
                per_token = flops_per_token(
                    planned_encoder(experiment),
                    expected.mean_length_per_token,
                    expected.masked_fraction,
                )
                row["mfu"] = round(tokens_per_second * per_token / products, 3)
                row["planned_gb"] = estimate_memory(experiment, windows, device).total / 1e9
            row["peak_gb"] = peak_memory(device) / 1e9
            rows.append(row | {"ok": tokens_per_second > 0})
    return rows


def flash(contestant: Contestant) -> Contestant:
    """With torch's flash kernel and no other, which takes full windows alone. (That of the package
    flash-attn is the same algorithm.)"""

    def step(given: Any) -> int:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return contestant.step(given)

    return contestant._replace(step=step)


class StopsAt(L.Callback):
    """Sends the run a signal in the middle of a step."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.step = -1  # a second signal would kill the run
            signal.raise_signal(signal.SIGTERM)


def training(size: Size) -> list[Row]:
    """A run of `cmgems pretrain`, and one that is stopped by a signal and resumed."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        whole = pretrain(_run(size, f"{folder}/whole"))
        seconds = time.perf_counter() - start
        stopped = False
        try:
            pretrain(_run(size, f"{folder}/cut"), [StopsAt(size.steps // 2 + 1)])
        except RunStopped:
            stopped = True
        resumed = pretrain(_run(size, f"{folder}/cut", "run.resume=true"), [StopsAt(-1)])
    first, loss, other = (
        of["random"]["loss"] for of in (whole["initial"], whole["final"], resumed["final"])
    )
    speed = round(whole["tokens_per_second"])
    row = {"steps": size.steps, "seconds": round(seconds, 1), "tokens_per_second": speed}
    ok = stopped and loss < first and abs(loss - other) < 1e-3 * loss
    return [row | {"loss_before": first, "loss": loss, "loss_resumed": other, "ok": ok}]


def _run(size: Size, folder: str, *more: str) -> Experiment:
    windows = min(64, 16 * max(size.windows))
    keys = {
        "run.dir": folder,
        "data.window_length": 128,
        "optim.warmup_steps": 1,
        "train.max_steps": size.steps,
        "train.global_batch_size": windows,
        "train.micro_batch_size": windows // 2,
        "train.accelerator": size.device,
        "validation.every_n_steps": size.steps // 2,
        "validation.windows": windows,
        "validation.final_windows": windows,
    } | {f"model.{name}": value for name, value in size.shrink.items()}
    overrides = [f"{key}={value}" for key, value in keys.items()]
    return load(EXPERIMENT, [*overrides, *more])


PARTS: dict[str, tuple[Callable[[Size], list[Row]], float]] = {  # and minutes that it may take
    "agreement": (agreement, 1.0),
    "families": (families, 2.0),
    "speed": (speed, 3.0),
    "training": (training, 2.0),
    "few-shot side by side": (
        lambda size: side_by_side(size.device, size.models, size.epochs, size.shrink),
        0.5,
    ),
    "two ranks on one device, by gloo": (
        lambda size: ranks_on_one_device(size.device, size.shrink),
        0.5,
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rehearse", action="store_true", help="at a shrunken size, on a CPU")
    parser.add_argument("--minutes", type=float, default=9.0, help="time to end within")
    parser.add_argument("--out", type=Path, default=Path("gpu_check"), help="folder of the results")
    parser.add_argument("--only", choices=PARTS, action="append", help="some parts alone")
    args = parser.parse_args(arguments)
    size, end = REHEARSAL if args.rehearse else REAL, time.monotonic() + 60 * args.minutes
    if size.device == "cuda" and not torch.cuda.is_available():
        print("found no CUDA GPU; --rehearse runs the script on a CPU")
        return 2
    name = torch.cuda.get_device_name() if size.device == "cuda" else "a CPU, rehearsed"
    results: dict[str, Any] = {"device": name, "torch": torch.__version__, "parts": {}}
    args.out.mkdir(parents=True, exist_ok=True)
    for part in args.only or PARTS:
        run, minutes = PARTS[part]
        rows: list[Row]
        if not args.rehearse and time.monotonic() + 60 * minutes > end:
            rows = [{"left_out": "no time was left", "ok": False}]
        else:
            try:
                rows = run(size)
            except Exception as error:  # the other parts are worth having all the same
                traceback.print_exc()
                rows = [{"error": f"{type(error).__name__}: {error}", "ok": False}]
        results["parts"][part] = rows
        write(args.out, results)
    print((args.out / "gpu_check.md").read_text())
    return int(not all(row["ok"] for rows in results["parts"].values() for row in rows))


def write(folder: Path, results: dict[str, Any]) -> None:
    with atomic_write(folder / "gpu_check.json") as handle:
        json.dump(results, handle, indent=1)
    with atomic_write(folder / "gpu_check.md") as handle:
        handle.write(f"{results['device']}, torch {results['torch']}\n")
        for part, rows in results["parts"].items():
            handle.write(f"\n## {part}\n\n{markdown(rows)}")


def markdown(rows: list[Row]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(row.get(name, "")) for name in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    raise SystemExit(main())
