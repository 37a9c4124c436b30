"""`cmgems plan` against what is measured; out of memory ends with its advice."""

import os
import resource
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from helpers.paths import EXPERIMENTS
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile

from cmgems.cli import main
from cmgems.config.encoders import Model
from cmgems.config.schema import Data, Experiment, Optim, Train
from cmgems.cost.device import Memory, device_memory
from cmgems.cost.flops import flops_per_token
from cmgems.cost.memory import Micro, layer_parameters, step_memory
from cmgems.cost.plan import (
    UnlearnedBytePairs,
    estimate_memory,
    estimate_windows,
    largest_micro_batch,
    plan,
)
from cmgems.models.build import build_model, encoder_config
from cmgems.models.layouts import SequenceLayout
from cmgems.runs.experiment import load
from cmgems.tokenization.bpe import letters_of
from cmgems.tokenization.bpe_file import train_byte_pairs
from cmgems.training import distributed
from cmgems.training.optim import build_optimizer

CM_GEMS = EXPERIMENTS / "pretrain/cm_gems.yaml"
CPU = torch.device("cpu")


def peak_of_steps(
    model: Model, lengths, micro_batches: int, wrapped=lambda model: model
) -> tuple[int, Micro]:
    """Most bytes that torch's allocator had given out in two steps, and what they were of."""
    tokens = sum(lengths)
    ids = torch.randint(5, 4101, (tokens,))
    at = (torch.rand(tokens) < 0.15).nonzero()[:, 0]
    experiment = Experiment(model=model)

    def steps():
        built = build_model(experiment)
        optimizer = build_optimizer(built, experiment.optim)
        built = wrapped(built)
        for number in range(2 * micro_batches):
            loss = F.cross_entropy(built(ids, SequenceLayout.of(lengths), at), ids[at])
            if number % micro_batches == 0:  # where Lightning does it
                optimizer.zero_grad()
            loss.backward()
            if (number + 1) % micro_batches == 0:
                optimizer.step()
        return built, optimizer

    # Without acc_events torch 2.11 warns, though there is one cycle.
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profiler:
        kept = steps()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    given = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        given += event.nbytes()
        peak = max(peak, given)
    del kept
    equal = len(set(lengths)) == 1
    micro = Micro(
        tokens, max(lengths), len(at) / tokens, accumulated=micro_batches > 1, equal_lengths=equal
    )
    return peak, micro


@pytest.mark.parametrize(
    ("model", "lengths", "micro_batches"),
    [
        (Model(preset="small"), (512,) * 2, 1),
        (Model(preset="small"), (512,) * 8, 2),
        (Model(preset="small"), (300, 280, 200, 31), 2),
        (Model(preset="logo"), (256,) * 2, 2),
        (Model(norm="pre", position_embedding="rotary", mlp="geglu", biases=False), (512,) * 4, 2),
        (Model(norm="pre", embedding_norm=False, num_layers=4), (300, 280, 200, 31), 2),
        (Model(position_embedding="alibi", mlp="geglu", num_layers=3), (512,) * 4, 2),
        (Model(position_embedding="alibi", num_layers=3), (512, 480, 400, 310), 2),
        (Model(position_embedding="rotary", conv_stem=5), (256,) * 4, 2),
        (Model(preset="small", num_layers=3, dropout=0.1), (256,) * 4, 2),
        (Model(preset="conv"), (256,) * 4, 2),
        (Model(preset="conv", num_layers=2), (300, 280, 200, 31), 2),
        (Model(preset="conv", norm="post", embedding_norm=True, num_layers=2), (256,) * 4, 2),
        (Model(preset="conv_attention"), (256,) * 4, 2),
        (Model(preset="conv_attention", num_layers=3, dropout=0.1), (256,) * 4, 2),
        (Model(preset="modern"), (256,) * 4, 2),
        (Model(preset="modern", num_layers=3), (300, 280, 200, 31), 2),
        (Model(preset="modern", num_layers=3), (1024,), 2),
        (Model(preset="modern", num_layers=3, dropout=0.1), (600, 400), 2),
        (Model(preset="nucleotide-transformer-v2", num_layers=2), (512,) * 2, 1),
    ],
)
def test_memory_of_a_step_is_within_a_tenth(model, lengths, micro_batches):
    torch.manual_seed(0)
    peak, micro = peak_of_steps(model, lengths, micro_batches)
    planned = step_memory(encoder_config(Experiment(model=model)), micro).total
    assert planned == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize(
    "model",
    [
        Model(preset="small"),
        Model(preset="conv_attention", conv_stem=5),
        Model(preset="nucleotide-transformer-v2", num_layers=1),
    ],
)
def test_memory_of_the_optimizer_is_that_of_its_state(model, optimizer):
    experiment = Experiment(model=model, optim=Optim(name=optimizer))
    built = build_model(experiment)
    for parameter in built.parameters():
        parameter.grad = torch.ones_like(parameter)
    stepped = build_optimizer(built, experiment.optim)
    stepped.step()
    parts = getattr(stepped, "optimizers", [stepped])
    states = [state for part in parts for state in part.state.values()]
    kept = [value for state in states for name, value in state.items() if name != "step"]
    planned = step_memory(built.encoder.config, Micro(64, 64, 0.15), optimizer=optimizer).optimiser
    assert planned == sum(value.nbytes for value in kept)


def test_memory_of_a_step_under_ddp(tmp_path):
    """Gradients lie in DDP's buckets, and nowhere else."""
    torch.manual_seed(0)
    model = Model(preset="logo")
    with gloo_alone(tmp_path / "store"):
        peak, micro = peak_of_steps(
            model, (128,), 2, lambda model: DistributedDataParallel(model, **distributed.DDP)
        )
    planned = step_memory(encoder_config(Experiment(model=model)), micro, ranks=2)
    assert planned.total == pytest.approx(peak, rel=0.1)
    assert planned.gradients > 0.15 * planned.total  # twice as much would show


@contextmanager
def gloo_alone(store):
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_ddp_keeps_gradients_and_sharding_spreads_the_weights():
    shape = encoder_config(Experiment(model=Model(preset="dnabert")))
    micro = Micro(tokens=5120, longest=512, masked=0.15, accumulated=False)
    alone, ddp = (step_memory(shape, micro, ranks) for ranks in (1, 8))
    assert alone.gradients < ddp.gradients == ddp.weights
    assert (ddp.weights, ddp.activations) == (alone.weights, alone.activations)
    sharded = step_memory(shape, micro, ranks=8, sharded=True)
    assert sharded.optimiser == alone.optimiser // 8
    assert sharded.weights == alone.weights // 8 + 4 * layer_parameters(shape)
    assert layer_parameters(shape) == 7_087_872


def test_lengths_and_masks_are_those_of_the_windows(genome):
    """Expected lengths against windows that are drawn."""
    from cmgems.data_modules.sampling import GenomeShare, WindowSampling
    from cmgems.data_modules.windows import WindowStream
    from cmgems.genome.spans import unambiguous_spans

    data = Data(window_length=510, full_length_fraction=0.5)
    windows = estimate_windows(Experiment(data=data))
    stream = WindowStream(
        genome.codes,
        [GenomeShare(unambiguous_spans(genome.codes))],
        WindowSampling(510, 6, 0.5),
        seed=0,
    )
    lengths = stream.windows(0, 5000).length.astype(float) - data.k + 3
    assert windows.mean_length == pytest.approx(lengths.mean(), rel=0.02)
    assert windows.mean_length_per_token == pytest.approx(
        (lengths**2).sum() / lengths.sum(), rel=0.02
    )
    assert windows.max_length == 507


def test_the_largest_micro_batch_that_fits_divides_the_batch():
    experiment = Experiment(train=Train(global_batch_size=240, micro_batch_size=240))
    need = {size: estimate_memory(experiment, size, CPU).total for size in range(1, 241)}
    room = int(need[25] / 0.85) + 1  # of 24, 20, ... 24 is the largest divisor of 240 below 25
    assert largest_micro_batch(experiment, CPU, Memory(room, room)) == 24
    assert largest_micro_batch(experiment, CPU, Memory(1000, 1000)) is None


def test_a_plan_adds_up():
    overrides = ["train.global_batch_size=20", "train.micro_batch_size=5", "train.devices=2"]
    planned = plan(load(CM_GEMS, overrides), CPU)
    windows = estimate_windows(planned.experiment)
    assert planned.flops_per_token == flops_per_token(
        planned.config, windows.mean_length_per_token, windows.masked_fraction
    )
    assert planned.tokens == windows.mean_length * 20 * 1000
    rate = (
        planned.speed.tokens_per_second
        * planned.flops_per_token
        / planned.speed.matmul_flops_per_second
    )
    assert rate == pytest.approx(planned.speed.efficiency)
    assert planned.seconds == pytest.approx(planned.tokens / planned.speed.tokens_per_second)
    assert planned.fits
    assert planned.max_micro_batch_size == 10
    assert planned.device_memory.total == device_memory(CPU).total // 2


def test_the_command_prints_the_plan(capsys):
    assert main(["plan", str(CM_GEMS), "model.preset=logo", "train.micro_batch_size=2"]) == 0
    shown = capsys.readouterr().out
    assert "4.93 million parameters" in shown
    assert "(1 processes x 5 micro-batches x 2)" in shown
    assert "2 fits; the largest that does is train.micro_batch_size=10" in shown
    assert "(assumed)" in shown


def test_measure_times_real_steps():
    experiment = load(
        CM_GEMS, ["model.num_layers=1", "model.hidden_size=32", "train.micro_batch_size=2"]
    )
    planned = plan(experiment, CPU, measure=True)
    assert planned.speed.is_measured
    assert planned.speed.tokens_per_second > 100
    assert 0 < planned.speed.efficiency < 1


def test_a_plan_of_byte_pairs_learns_none(monkeypatch):
    """Not even the genome has to be there: the size of the vocabulary is in the experiment."""
    monkeypatch.setattr("cmgems.tokenization.load_pretraining_genome", None)
    sizes = ["model.num_layers=1", "model.hidden_size=32", "train.micro_batch_size=2"]
    overrides = ["data.genome=nowhere.fa", "data.bpe_vocab_size=1024", *sizes]
    planned = plan(load(EXPERIMENTS / "pretrain/bpe.yaml", overrides), CPU, measure=True)
    assert planned.config.vocab_size == 1024
    assert planned.speed.is_measured


def test_expected_byte_pairs_are_about_those_that_are_learned(genome):
    learned = train_byte_pairs(genome, 256)
    text = letters_of(genome.codes[10_000:20_000])
    tokens = len(learned.encode(text).ids) + 2
    assert UnlearnedBytePairs(256).num_tokens(len(text)) == pytest.approx(tokens, rel=0.1)


def test_a_plan_that_cannot_fit_says_so(capsys, monkeypatch):
    monkeypatch.setattr("cmgems.cost.plan.device_memory", lambda _: Memory(10**8, 10**8))
    assert main(["plan", str(CM_GEMS), "train.micro_batch_size=10"]) == 0
    assert "10 does not fit; train.micro_batch_size=5 (2 of them make a step) does" in (
        capsys.readouterr().out
    )
    monkeypatch.setattr("cmgems.cost.plan.device_memory", lambda _: Memory(10**6, 10**6))
    assert main(["plan", str(CM_GEMS)]) == 0
    assert "not even 1 window fits" in capsys.readouterr().out


@pytest.mark.skipif("CMGEMS_LAUNCHERS" not in os.environ, reason="make test-scaling runs it")
def test_a_run_that_runs_out_of_memory_ends_with_advice(tmp_path):
    """Under a limit of the address space, which torch's allocator runs into for real."""
    limit = 12 << 30  # libraries and threads alone take some GB of addresses
    command = [
        sys.executable,
        "-m",
        "cmgems",
        "pretrain",
        CM_GEMS,
        f"run.dir={tmp_path / 'run'}",
    ]
    # A feed-forward so wide that its first states in training are more than that, while the weights
    # and the one window of validation are less: it fails before much is computed.
    model = ["model.hidden_size=16", "model.num_heads=2", "model.intermediate_size=400_000"]
    train = [
        "train.global_batch_size=20",
        "train.micro_batch_size=20",
        "data.full_length_fraction=1",
        "validation.windows=1",
        "validation.final_windows=1",
    ]
    done = subprocess.run(
        [
            *command,
            *model,
            *train,
            "curriculum.schedule=constant",
            "curriculum.strategies=[random]",
        ],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=200,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode == 1, done.stderr[-2000:]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("cmgems pretrain: out of memory: a step of train.micro_batch_size = 20 ")
    assert "try train.micro_batch_size=" in last
    assert "Traceback" not in done.stderr


def no_memory_on_a_gpu(_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def no_memory_on_a_cpu(_):
    torch.empty(1 << 55)


@pytest.mark.parametrize("fail", [no_memory_on_a_gpu, no_memory_on_a_cpu])
def test_out_of_memory_ends_with_advice(fail, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("cmgems.pretraining.pretrain", fail)
    assert main(["pretrain", str(CM_GEMS), f"run.dir={tmp_path}"]) == 1
    error = capsys.readouterr().err
    assert "try train.micro_batch_size=5 (2 of them make the same step)" in error
    assert len(error.strip().splitlines()) == 1


def test_another_runtime_error_is_not_taken_for_memory(tmp_path, monkeypatch):
    def fail(_):
        raise RuntimeError("shape '[3]' is invalid")

    monkeypatch.setattr("cmgems.pretraining.pretrain", fail)
    with pytest.raises(RuntimeError, match="shape"):
        main(["pretrain", str(CM_GEMS), f"run.dir={tmp_path}"])
