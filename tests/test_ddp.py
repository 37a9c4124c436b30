"""Two processes on one machine (gloo): one run, the same weights, other windows."""

import csv
import json
import os
import subprocess
import sys

import pytest
import torch
from conftest import EXPERIMENTS

TWELVE = ["train.max_steps=12", "curriculum.plateau.rule=paper", "curriculum.plateau.threshold=1e9"]
# Each rank writes down what it saw; Lightning starts the second process with the same script.
SCRIPT = """
import json, os, sys
import lightning as L
from cmgems import train
from cmgems.config_files import load

class Witness(L.Callback):
    def __init__(self):
        self.keys, self.strategies = [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.keys.append(batch.keys_B2.tolist())
        self.strategies.append(module.strategy)

    def on_train_end(self, trainer, module):
        total = sum(float(p.detach().double().abs().sum()) for p in module.parameters())
        first = next(module.parameters()).detach().flatten()[:50].tolist()
        seen = {"keys": self.keys, "strategies": self.strategies, "total": total, "first": first}
        with open(f"{sys.argv[2]}/rank{trainer.global_rank}.json", "w") as handle:
            json.dump(seen, handle)

in_order = train.RunCallbacks.in_order
train.RunCallbacks.in_order = lambda self: [*in_order(self), Witness()]
train.pretrain(load(sys.argv[1], sys.argv[3:]))
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
        experiment = EXPERIMENTS / "pretrain/cm_gems.yaml"
        overrides = [*tiny, *TWELVE, f"train.devices={devices}", f"run.dir={out / 'run'}"]
        command = [sys.executable, folder / "script.py", experiment, out, *overrides]
        done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-3000:]
        seen[devices] = [json.loads((out / f"rank{r}.json").read_text()) for r in range(devices)]
    return folder, seen


def test_ranks_end_with_the_same_weights(runs):
    one, two = runs[1][2]
    assert one["total"] == two["total"]
    assert one["first"] == two["first"]


def test_ranks_see_disjoint_windows_and_together_those_of_one_process(runs):
    one, two = ({tuple(key) for batch in rank["keys"] for key in batch} for rank in runs[1][2])
    assert not one & two
    alone = {tuple(key) for batch in runs[1][1][0]["keys"] for key in batch}
    assert one | two == alone
    assert len(alone) == 12 * 4


def test_ranks_are_in_the_same_stage(runs):
    one, two = runs[1][2]
    assert one["strategies"] == two["strategies"] == ["genemask"] * 6 + ["global_pmi"] * 6


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
