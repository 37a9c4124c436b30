"""Sweeps on a real Slurm of one node; `CMGEMS_SLURM=1`, as root, with Debian's packages."""

import os
import signal
import subprocess

import pytest
from helpers.paths import EXPERIMENTS, ROOT
from helpers.sweeps import GRID, interrupt_when

from cmgems.errors import SweepStopped
from cmgems.runs.experiment import load
from cmgems.sweeps.cluster import queued_jobs, read_job_id
from cmgems.sweeps.run import run_sweep
from cmgems.sweeps.state import State, run_state

pytestmark = pytest.mark.skipif(
    os.environ.get("CMGEMS_SLURM") != "1",
    reason="starts a Slurm of its own: CMGEMS_SLURM=1, as root, with slurmctld, slurmd and munge",
)
SCRIPT = ROOT / "scripts/slurm_one_node.sh"
ON_SLURM = ("executor=slurm", "slurm.cpus=1", "slurm.memory=1", "slurm.minutes=10")


@pytest.fixture(scope="module", autouse=True)
def slurm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([SCRIPT, "start", folder], check=True, timeout=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setattr("cmgems.sweeps.cluster.QUEUE_POLL_SECONDS", 1.0)
        yield
    subprocess.run([SCRIPT, "stop", folder], check=True, timeout=60)


def test_a_sweep_is_stopped_and_resumed(stand_in, sweep_file, tmp_path):
    folder = tmp_path / "sweep"
    names = ["easy-seed0", "hard-seed0"]
    stand_in(hang=names)
    started = [folder / name / "metrics.csv" for name in names]
    interrupt_when(lambda: all(path.exists() for path in started), [signal.SIGTERM])
    with pytest.raises(SweepStopped):
        run_sweep(sweep_file(GRID, *ON_SLURM, "only=?*-seed0"))
    assert [run_state(folder / name) for name in names] == [State.STOPPED] * 2
    stand_in()
    run_sweep(sweep_file(GRID, *ON_SLURM, "only=?*-seed0"))
    assert [run_state(folder / name) for name in names] == [State.FINISHED] * 2


def test_submitted_and_left_the_same_command_follows_the_runs(
    stand_in, sweep_file, tmp_path, capsys
):
    folder = tmp_path / "sweep"
    stand_in(hang=["easy-seed0"])
    overrides = (*ON_SLURM, "only=easy-seed0")
    run_sweep(sweep_file(GRID, *overrides, "slurm.wait=false"))
    assert "1 runs are in the queue" in capsys.readouterr().out
    job_id = read_job_id(folder / "easy-seed0")
    assert queued_jobs([job_id]) == {job_id}
    interrupt_when((folder / "easy-seed0/metrics.csv").exists, [signal.SIGINT])
    with pytest.raises(SweepStopped):
        run_sweep(sweep_file(GRID, *overrides))
    assert queued_jobs([job_id]) == set()
    assert len((folder / "order.txt").read_text().splitlines()) == 1  # not started twice
    stand_in()
    run_sweep(sweep_file(GRID, *overrides))
    assert run_state(folder / "easy-seed0") is State.FINISHED


def test_a_real_run(tiny, sweep_file, tmp_path):
    from cmgems.pretraining import pretrain
    from cmgems.runs.folder import RunFolder

    text = "axes: {seed: [3]}\n"
    run_sweep(sweep_file(text, *tiny, "train.max_steps=3", *ON_SLURM))
    overrides = [*tiny, "train.max_steps=3", "seed=3", f"run.dir={tmp_path / 'here'}"]
    wanted = pretrain(load(EXPERIMENTS / "pretrain/base.yaml", overrides))
    assert RunFolder(tmp_path / "sweep/seed3").read_results()["final"] == wanted["final"]
