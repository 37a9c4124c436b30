"""Speed of a run: what is counted, what becomes of the time, and the profiler's trace."""

import csv
import json
from types import SimpleNamespace

import pytest
import torch
from helpers.paths import EXPERIMENTS

from cmgems.callbacks import Throughput
from cmgems.callbacks.throughput import PHASES, PhaseTimer
from cmgems.config.encoders import Model
from cmgems.config.schema import Experiment
from cmgems.cost.device import measure_matmul_speed, peak_memory
from cmgems.cost.flops import flops_per_token
from cmgems.data_modules.windows import WindowBatch
from cmgems.models.build import build_model
from cmgems.pretraining import pretrain
from cmgems.runs.experiment import load
from cmgems.tokenization import OverlappingKmers

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """A run of nine steps with a trace, in bfloat16: (folder, results)."""
    folder = tmp_path_factory.mktemp("speed") / "run"
    overrides = [*tiny, "train.max_steps=9", "train.log_every_n_steps=2", "train.precision=bf16"]
    overrides += ["train.profile=true", f"run.dir={folder}"]
    return folder, pretrain(load(EXPERIMENTS / "pretrain/random.yaml", overrides))


def test_results_and_scalars_have_the_speed(run):
    folder, results = run
    speed = results["speed"]
    fractions = [speed[f"fraction_{phase}"] for phase in (*PHASES, "other")]
    assert all(fraction > 0 for fraction in fractions)
    assert sum(fractions) == pytest.approx(1.0, abs=0.02)
    assert speed["fraction_backward"] > speed["fraction_data"]
    assert 0 < speed["mfu"] < 1
    assert 0.1 < speed["peak_memory_gb"] <= peak_memory(CPU) / 1e9
    # 5 bases more than k-mers, 2 tokens more: 3 bases more than tokens
    windows = 9 * 4
    bases, tokens = (speed[f"{what}_per_second"] for what in ("bases", "tokens"))
    assert bases / tokens == pytest.approx(1 + 3 * windows / results["tokens"], rel=1e-6)
    with open(folder / "metrics.csv") as handle:
        rows = [row for row in csv.DictReader(handle) if row["name"].startswith("speed/")]
    assert {int(row["step"]) for row in rows} == {2, 4, 6, 8}
    assert {row["name"].removeprefix("speed/") for row in rows} == {
        *(set(speed) - {"matmul_flops_per_second"}),
        "million_tokens",
        "peak_memory_gb",
    }


def test_writes_a_trace_that_a_viewer_opens(run):
    trace = json.loads((run[0] / "profile/trace.json").read_text())
    names = {event.get("name") for event in trace["traceEvents"]}
    assert {"aten::addmm", "Optimizer.step#AdamW.step"} <= names
    assert "Self CPU" in (run[0] / "profile/costs.txt").read_text()


def test_flops_follow_lengths_and_the_masked_fraction():
    """Two windows of 95 and 59 tokens, a seventh of which are masked, at a rate of 1 GFLOP/s; the
    other rank has a token and a base less."""
    log = SimpleNamespace(last_logged={"masked_fraction": 1 / 7})
    module = SimpleNamespace(
        model=build_model(Experiment(model=Model(preset="small"))),
        device=CPU,
        add_up=lambda mine: 2 * mine - 1,
    )
    data = SimpleNamespace(loading_seconds=0.0)
    trainer = SimpleNamespace(accumulate_grad_batches=1, global_step=1, datamodule=data, loggers=[])
    throughput = Throughput(every=1, tokenization=OverlappingKmers(6), log=log)
    throughput.setup(trainer, module, "fit")
    throughput.on_train_start(trainer, module)
    throughput.device_speed = 1e9
    throughput.on_train_batch_start(trainer, module, None, 0)
    data.loading_seconds = 0.25
    batch = WindowBatch(torch.empty(2, 98), (98, 62), torch.empty(2, 2))
    throughput.on_train_batch_end(trainer, module, None, batch, 0)
    shape = module.model.encoder.config
    mean_length = (95**2 + 59**2) / (95 + 59)
    assert throughput.flops == pytest.approx(154 * flops_per_token(shape, mean_length, 1 / 7))
    assert (throughput.tokens, throughput.bases) == (154 + 153, 160 + 159)
    assert throughput.phases["data"] == 0.25
    assert throughput.results()["mfu"] == pytest.approx(throughput.flops / throughput.seconds / 1e9)


def test_phases_divide_the_time_of_a_step(monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 7.0, 20.0, 21.0, 22.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    timer = PhaseTimer(CPU)
    for phase in ("forward", "backward", "optimizer", None, "forward", "backward", None):
        timer.start(phase)
    assert timer.elapsed() == {"forward": 2.0, "backward": 3.0, "optimizer": 4.0}
    assert timer.elapsed() == {}


def test_what_is_no_training_does_not_count(monkeypatch):
    """Time counts from the first step; after a validation or a pause, from the next one."""
    throughput = Throughput(every=1, tokenization=OverlappingKmers(6), log=None)
    throughput._timer = PhaseTimer(CPU)
    trainer = SimpleNamespace(state=SimpleNamespace(fn="validate"))
    now = [10.0]
    monkeypatch.setattr("cmgems.callbacks.throughput.time.perf_counter", lambda: now[0])
    throughput.on_train_batch_start(trainer, None, None, 0)  # at 10
    now[0] = 12.0
    with throughput.paused():
        now[0] = 20.0
    assert throughput.seconds == 2.0
    now[0] = 25.0
    throughput.on_train_batch_start(trainer, None, None, 1)
    now[0] = 26.0
    throughput.on_validation_start(trainer, None)
    now[0] = 40.0
    throughput.on_train_batch_start(trainer, None, None, 2)
    now[0] = 44.0
    throughput._read_clock()
    assert throughput.seconds == 2.0 + 1.0 + 4.0


def test_rate_and_memory_are_of_this_machine():
    """Slow or loaded as it may be, a core multiplies and adds at more than 1 GFLOP/s."""
    assert 1e9 < measure_matmul_speed(CPU, torch.float32) < 1e14
    before = peak_memory(CPU)
    block = torch.ones(50_000_000)  # 200 MB
    assert peak_memory(CPU) >= before
    assert peak_memory(CPU) > block.nbytes
