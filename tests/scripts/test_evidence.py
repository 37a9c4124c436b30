"""scripts/evidence.sh: what it calls, with a stand-in for `cmgems` that records its arguments."""

import json
import os
import subprocess
import sys

import pytest
from helpers.paths import EXPERIMENTS

from cmgems.evaluation.config import load_evaluation
from cmgems.runs.step_rules import steps_to_keep
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


PARTS = ("evidence_common_end", "evidence_hidden_bases", "evidence_bases")


def test_without_labelled_tasks(evidence, tmp_path):
    code, calls, _ = evidence("a.fa", "b.fa", "--", "optim.learning_rate=0.001")
    assert code == 0
    assert calls[0] == ["genome", "a.fa", "b.fa", "--out", f"{tmp_path}/runs/genome"]
    assert [call[0] for call in calls[1:]] == ["sweep", "branch", "compare", "compare"] * 3
    for name, sweep, branch, compare, wide in zip(
        PARTS, calls[1::4], calls[2::4], calls[3::4], calls[4::4], strict=True
    ):
        assert sweep[1] == f"experiments/sweep/{name}.yaml"
        file = read_sweep(ROOT / sweep[1], sweep[2:])
        assert file.sweep.jobs == 2
        runs = plan_runs(file, cross_axes(file))
        experiments = [run.experiment for run in runs]
        assert {each.data.genome for each in experiments} == {f"{tmp_path}/runs/genome"}
        assert {each.optim.learning_rate for each in experiments} == {0.001}
        assert {run.folder.parent for run in runs} == {tmp_path / "runs" / name}
        assert branch[1:3] == [f"{tmp_path}/runs/{name}/*-seed?", "step=kept"]
        assert (branch[3] == "decay=300") == (name == "evidence_common_end")
        assert f"dir={tmp_path}/runs/{name}-ends" in branch
        assert compare[1:] == [f"{tmp_path}/runs/{name}-ends", f"out=docs/results/{name}"]
        ends, baseline, out = wide[1:]
        assert (ends, baseline) == (compare[1], "baseline=random_wide")
        assert out == f"out=docs/results/{name}-random_wide"


@pytest.mark.parametrize("name", [*PARTS, "paper"])
def test_branches_end_at_exact_fractions_of_the_budget(name):
    """The default decay, a fifth of a branch, falls on its validations."""
    file = read_sweep(ROOT / f"experiments/sweep/{name}.yaml", [])
    for run in plan_runs(file, cross_axes(file)):
        every = run.experiment.validation.every_n_steps
        assert run.experiment.optim.schedule == "wsd"
        assert steps_to_keep(run.experiment)[-1] == run.experiment.train.max_steps
        if name != PARTS[0]:
            assert all(step % (4 * every) == 0 for step in steps_to_keep(run.experiment))


def test_scored_on_labelled_tasks_too(evidence, tmp_path):
    code, calls, _ = evidence("a.fa", TASKS="labelled", PAPER="1")
    assert code == 0
    _, sweep, branch, probe, *compares = calls
    assert sweep[1] == "experiments/sweep/paper.yaml"
    models = f"models=[{tmp_path}/runs/paper-ends/*/checkpoints/last.ckpt]"
    assert models in probe
    evaluation = load_evaluation(ROOT / probe[1], [word for word in probe[2:] if word != models])
    assert (evaluation.protocol, evaluation.tasks.root) == ("probe", "labelled")
    assert (len(evaluation.tasks.names), evaluation.few_shot.replicates) == (8, 5)
    assert len(compares) == 2
    assert all(evaluation.run.dir in compare for compare in compares)
    assert f"dir={tmp_path}/runs/paper-ends" in branch


def test_needs_a_genome(evidence):
    code, calls, error = evidence()
    assert (code, calls) == (2, [])
    assert error.startswith("evidence: found no ")
