"""Probes during pretraining: scores against the step, and a run that does not notice them."""

import json

import pytest
import torch
from helpers.paths import EXPERIMENTS

from cmgems.errors import UserError
from cmgems.pretraining import pretrain
from cmgems.runs.experiment import load


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Twelve sequences per class, which differ in composition."""
    folder = tmp_path_factory.mktemp("task")
    rows = [
        f"{'ACGGT' * 8 if i % 2 else 'AATTA' * 8}{'ACGT'[i % 4] * i},{i % 2}" for i in range(24)
    ]
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text("\n".join(["sequence,label", *rows]) + "\n")
        rows = [f"C{row}" for row in rows]
    (folder / "easy.yaml").write_text('classes: ["0", "1"]\ntrain: train.csv\ntest: test.csv\n')
    return folder / "easy.yaml"


def test_scores_against_the_step_and_the_same_run(tiny, task, tmp_path):
    runs = {}
    for name, every in (("with", 2), ("without", 0)):
        folder = tmp_path / name
        probe = [f"probe.every_n_steps={every}", f"probe.tasks=[{task}]", "probe.shots=8"]
        steps = ["train.max_steps=6", "model.dropout=0.1", f"run.dir={folder}"]
        results = pretrain(load(EXPERIMENTS / "pretrain/random.yaml", [*tiny, *probe, *steps]))
        saved = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
        runs[name] = saved["state_dict"], results, folder
    states, results, folder = runs["with"]
    assert all(torch.equal(x, runs["without"][0][name]) for name, x in states.items())
    assert [row["step"] for row in results["probe"]] == [2, 4, 6]
    assert all(row["accuracy"] > 0.9 for row in results["probe"])
    assert json.loads((folder / "results.json").read_text())["probe"] == results["probe"]
    lines = (folder / "metrics.csv").read_text().splitlines()
    assert sum(line.split(",")[1] == "probe/easy/mcc" for line in lines) == 3
    assert runs["without"][1]["probe"] == []


def test_a_wrong_task_is_told_before_the_run(tiny, tmp_path):
    more = ["probe.every_n_steps=2", "probe.tasks=[prom-cor]", f"run.dir={tmp_path / 'run'}"]
    with pytest.raises(UserError, match="found the task 'prom-cor'"):
        pretrain(load(EXPERIMENTS / "pretrain/random.yaml", [*tiny, *more, "train.max_steps=3"]))
    assert not (tmp_path / "run").exists()
