"""scripts/evidence.sh: what it calls, with a stand-in for `cmgems` that records its arguments."""

import json
import os
import subprocess
import sys

import pytest
from helpers.paths import EXPERIMENTS

from cmgems.evaluation.config import load_evaluation
from cmgems.sweeps.config import read_sweep
from cmgems.sweeps.plan import cross_axes, plan_runs

ROOT = EXPERIMENTS.parent
STAND_IN = """#!{python}
import json, sys
with open({log!r}, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
"""


@pytest.fixture
def evidence(tmp_path):
    """Runs the script: (exit code, calls of cmgems, standard error)."""
    log, stand_in = tmp_path / "log", tmp_path / "cmgems"
    stand_in.write_text(STAND_IN.format(python=sys.executable, log=str(log)))
    stand_in.chmod(0o755)

    def run(*words, **variables):
        given = os.environ | {"CMGEMS": str(stand_in), "RUNS": str(tmp_path / "runs")} | variables
        done = subprocess.run(
            ["bash", "scripts/evidence.sh", *words],
            cwd=ROOT,
            env=given,
            capture_output=True,
            text=True,
            check=False,
        )
        calls = log.read_text().splitlines() if log.exists() else []
        return done.returncode, [json.loads(call) for call in calls], done.stderr

    return run


def test_without_labelled_tasks(evidence, tmp_path):
    code, calls, _ = evidence("a.fa", "b.fa", "--", "jobs=1")
    assert code == 0
    assert calls[0] == ["genome", "a.fa", "b.fa", "--out", f"{tmp_path}/runs/genome"]
    assert [call[0] for call in calls[1:]] == [
        "sweep", "compare", "compare", "sweep", "compare", "compare"
    ]  # fmt: skip
    for name, call in zip(("evidence", "init_and_span"), (calls[1], calls[4]), strict=True):
        assert call[1] == f"experiments/sweep/{name}.yaml"
        file = read_sweep(ROOT / call[1], call[2:])
        assert file.sweep.jobs == 1
        runs = plan_runs(file, cross_axes(file))
        assert {run.experiment.data.genome for run in runs} == {f"{tmp_path}/runs/genome"}
        assert {run.folder.parent for run in runs} == {tmp_path / "runs" / name}


def test_scored_on_labelled_tasks_too(evidence, tmp_path):
    code, calls, _ = evidence("a.fa", TASKS="labelled", PAPER="1")
    assert code == 0
    _, sweep, few_shot, probe, whole, curriculum = calls
    assert sweep[1] == "experiments/sweep/paper.yaml"
    models = f"models=[{tmp_path}/runs/paper/*/checkpoints/last.ckpt]"
    assert models in few_shot
    for call, protocol in ((probe, "probe"), (few_shot, "few_shot")):
        overrides = [word for word in call[2:] if word != models]
        evaluation = load_evaluation(ROOT / call[1], overrides)
        assert (evaluation.protocol, evaluation.tasks.root) == (protocol, "labelled")
        folder = evaluation.run.dir
        assert folder == f"{tmp_path}/runs/scores/paper-{protocol}"
        assert (folder in whole) == (folder in curriculum) == (call is few_shot)


def test_needs_a_genome(evidence):
    code, calls, error = evidence()
    assert (code, calls) == (2, [])
    assert error.startswith("evidence: found no ")
