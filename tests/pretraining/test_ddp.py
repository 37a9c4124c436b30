"""Two processes on one machine (gloo): one run, the same weights, other windows.

Lightning starts the two of a whole run (DDP); torchrun the two that go on, each with a share of the
weights (FSDP), where a run of one process stood at half. `make test-scaling` tries more.
"""

import csv
import json
import os
import runpy
import shutil
import socket
import subprocess
import sys

import pytest
import torch
from helpers.paths import EXPERIMENTS

SLOW = pytest.mark.skipif("CMGEMS_LAUNCHERS" not in os.environ, reason="make test-scaling runs it")
TWELVE = [
    "train.max_steps=12",
    "train.global_batch_size=8",
    "train.micro_batch_size=2",  # two accumulated on each of two ranks, four on one
    "curriculum.plateau.rule=paper",
    "curriculum.plateau.threshold=1e9",
    "validation.final_windows=33",  # two ranks have 17 and 16, two batches each
]
# Each rank writes down what it saw; Lightning starts the second process with the same script.
SCRIPT = """
import json, os, shutil, sys
import lightning as L
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from cmgems.runs.experiment import load
from cmgems.training.distributed import full_tensor
from cmgems.pretraining import pretrain

class Witness(L.Callback):
    def __init__(self):
        self.keys, self.strategies, self.reduced = [], [], []

    def on_train_start(self, trainer, module):
        if hasattr(trainer.model, "register_comm_hook"):
            trainer.model.register_comm_hook(None, self.reduce)

    def reduce(self, _, bucket):
        self.reduced.append(len(self.keys))
        return allreduce_hook(None, bucket)

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.world_size == 1 and batch_idx == 6 * trainer.accumulate_grad_batches:
            shutil.copytree(sys.argv[3].removeprefix("run.dir="), f"{sys.argv[2]}/half")
        self.keys.append(batch.keys_B2.tolist())
        self.strategies.append(module.strategy)

    def on_train_end(self, trainer, module):
        weights = [full_tensor(p.detach()) for p in module.parameters()]
        total = sum(float(p.double().abs().sum()) for p in weights)
        first = weights[0].flatten()[:50].tolist()
        seen = {"keys": self.keys, "strategies": self.strategies, "total": total, "first": first}
        seen["reduced"] = self.reduced
        with open(f"{sys.argv[2]}/rank{trainer.global_rank}.json", "w") as handle:
            json.dump(seen, handle)

pretrain(load(sys.argv[1], sys.argv[3:]), callbacks=[Witness()])
"""


@pytest.fixture(scope="module")
def runs(tiny, tmp_path_factory, genome):
    """The same experiment on one process and on two: (folder, what each rank saw)."""
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "script.py").write_text(SCRIPT)
    seen = {}
    for devices in (1, 2):
        out = folder / f"of{devices}"
        out.mkdir()
        command = script(folder, out, out / "run", [*tiny, f"train.devices={devices}"])
        if devices == 1:
            run_here(command)
        else:
            start([sys.executable, *command])
        seen[devices] = witnessed(out, devices)
    return folder, seen


def script(folder, out, run, overrides):
    """The script's command: it writes into `out` what it saw of `run`."""
    experiment = EXPERIMENTS / "pretrain/cm_gems.yaml"
    return [folder / "script.py", experiment, out, f"run.dir={run}", *overrides, *TWELVE]


def run_here(command):
    """In this process, which has all that is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(word) for word in command])
        runpy.run_path(str(command[0]))


def start(command, env=None):
    done = subprocess.run(
        command, env=env or os.environ, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]


def witnessed(out, ranks):
    return [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(ranks)]


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def fsdp(command):
    torchrun([*command, "train.strategy=fsdp"])


def torchrun(command):
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1"]
    start([sys.executable, *launcher, f"--master-port={free_port()}", *command])


def srun(command):
    """Two tasks with the environment that Slurm's srun gives them."""
    job = {
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NAME": "cmgems",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_NODEID": "0",
        "MASTER_PORT": str(free_port()),
    }
    tasks = [
        subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **job, "SLURM_PROCID": task, "SLURM_LOCALID": task},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for task in ("0", "1")
    ]
    for task in tasks:
        _, error = task.communicate(timeout=240)
        assert task.returncode == 0, error[-3000:]


@pytest.fixture(
    scope="module",
    params=[fsdp, pytest.param(torchrun, marks=SLOW), pytest.param(srun, marks=SLOW)],
)
def resumed(request, runs, tiny, tmp_path_factory):
    """Six steps of one process, six more of two that another launcher starts."""
    folder = runs[0]
    out = tmp_path_factory.mktemp("resumed")
    shutil.copytree(folder / "of1/half", out / "run")
    overrides = [*tiny, "train.devices=2", "run.resume=true"]
    request.param(script(folder, out, out / "run", overrides))
    return out, witnessed(out, 2)


def test_ranks_end_with_the_same_weights(runs):
    one, two = runs[1][2]
    assert one["total"] == two["total"]
    assert one["first"] == two["first"]


def test_ranks_see_disjoint_windows_and_together_those_of_one_process(runs):
    one, two = ({tuple(key) for batch in rank["keys"] for key in batch} for rank in runs[1][2])
    assert not one & two
    alone = {tuple(key) for batch in runs[1][1][0]["keys"] for key in batch}
    assert one | two == alone
    assert len(alone) == 12 * 8


def test_ranks_are_in_the_same_stage(runs):
    one, two = runs[1][2]
    assert one["strategies"] == two["strategies"] == ["genemask"] * 12 + ["global_pmi"] * 12


def test_two_processes_train_like_one(runs):
    """The same windows and masks in each step; only the order of sums differs."""

    def losses(devices):
        with open(runs[0] / f"of{devices}/run/metrics.csv") as handle:
            rows = [row for row in csv.DictReader(handle) if "/loss" in row["name"]]
        return {(row["step"], row["name"]): float(row["value"]) for row in rows}

    one, two = losses(1), losses(2)
    assert one.keys() == two.keys()
    for key, value in one.items():
        # Each rank averages over its own masked tokens before the ranks are averaged, as one
        # process does over its micro-batches, so the weights agree too.
        assert two[key] == pytest.approx(value, rel=1e-4), key
    weights = [
        torch.load(runs[0] / f"of{n}/run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for n in (1, 2)
    ]
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], rtol=0, atol=2e-4), name


def test_two_processes_are_judged_like_one(runs, resumed):
    """On the same bases, each gathered into its place; also where ranks hold shares of a model."""
    one, *others = (
        json.loads((folder / "results.json").read_text())["hidden_bases"]
        for folder in (runs[0] / "of1/run", runs[0] / "of2/run", resumed[0] / "run")
    )
    for two in others:
        assert one.keys() == two.keys()
        assert one["strata"].keys() == two["strata"].keys() >= {"all", "unique", "repeats"}
        for name, found in one["strata"].items():
            other = two["strata"][name]
            assert other["bases"] == found["bases"]
            assert other["bits"]["markov_seen"] == found["bits"]["markov_seen"]
            bits, wanted = (part["bits"]["model"]["mean"] for part in (other, found))
            assert bits == pytest.approx(wanted, rel=1e-4)


def test_tokens_are_summed_over_ranks(runs, resumed):
    """Ranks have windows of other lengths: one's times two is not the number."""
    counts = []
    for run in (runs[0] / "of1/run", runs[0] / "of2/run", resumed[0] / "run"):
        saved = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
        counted = saved["callbacks"]["Throughput"]
        assert json.loads((run / "results.json").read_text())["tokens"] == counted["tokens"]
        counts.append((counted["tokens"], counted["bases"]))
    assert counts[0] == counts[1] == counts[2]


def keys_by_step(rank, ranks):
    """The windows of each step, as a set of their keys."""
    keys, each = rank["keys"], 4 // ranks
    return [
        {tuple(key) for batch in keys[i : i + each] for key in batch}
        for i in range(0, len(keys), each)
    ]


def test_another_number_of_ranks_goes_on_with_the_same_windows_in_each_step(runs, resumed):
    alone = keys_by_step(runs[1][1][0], 1)
    one, two = (keys_by_step(rank, 2) for rank in resumed[1])
    assert (len(alone), len(one)) == (12, 6)
    assert [a | b for a, b in zip(one, two, strict=True)] == alone[6:]
    assert all(not a & b for a, b in zip(one, two, strict=True))


def test_a_run_resumed_on_another_number_of_ranks_learns_the_same(runs, resumed):
    weights = [
        torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for run in (runs[0] / "of1/run", resumed[0] / "run")
    ]
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], rtol=0, atol=2e-4), name


def test_gradients_are_summed_over_ranks_once_a_step(runs):
    """Not after each accumulated micro-batch: the last of two alone."""
    for rank in runs[1][2]:
        assert len(rank["keys"]) == 2 * 12
        assert sorted(set(rank["reduced"])) == [2 * step for step in range(1, 13)]
        assert len(rank["reduced"]) % 12 == 0
