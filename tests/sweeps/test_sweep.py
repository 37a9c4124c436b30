"""Sweeps: what is run and what is run again; stopped, killed and resumed."""

import fcntl
import json
import os
import signal
import subprocess
import threading
import time

import pytest
from helpers.paths import EXPERIMENTS
from helpers.sweeps import GRID, interrupt_when

from cmgems.errors import RunFailed, SweepStopped, UserError
from cmgems.pretraining import pretrain
from cmgems.runs.experiment import load
from cmgems.runs.folder import IN_USE
from cmgems.sweeps.jobs import FinishedJob
from cmgems.sweeps.local import slot_environment
from cmgems.sweeps.plan import cross_axes, plan_runs
from cmgems.sweeps.run import run_sweep
from cmgems.sweeps.scheduler import classify_exit
from cmgems.sweeps.state import OUTPUT, State, read_failure, run_state, steps_done


def test_a_genome_that_cannot_be_read_stops_all(sweep_file, tmp_path, stand_in):
    with pytest.raises(UserError, match=r"none\.fa"):
        run_sweep(sweep_file(GRID, "data.genome=none.fa"))
    assert not (tmp_path / "sweep").exists()


def test_finished_runs_are_skipped_and_failed_ones_tried_again_on_request(
    sweep_file, tmp_path, stand_in, capsys
):
    folder = tmp_path / "sweep"
    stand_in(fail={"easy-seed1": "data.genome: found nothing"})
    with pytest.raises(RunFailed) as failed:
        run_sweep(sweep_file(GRID, "jobs=2"))
    assert str(failed.value).splitlines()[1] == "  easy-seed1: data.genome: found nothing"
    assert run_state(folder / "easy-seed1") is State.FAILED
    assert run_state(folder / "hard-seed1") is State.FINISHED
    ran = (folder / "order.txt").read_text().splitlines()
    assert sorted(ran) == ["easy-seed0", "easy-seed1", "hard-seed0", "hard-seed1"]

    stand_in()
    with pytest.raises(RunFailed, match="1 of 4 runs failed"):
        run_sweep(sweep_file(GRID))
    assert (folder / "order.txt").read_text().splitlines() == ran
    run_sweep(sweep_file(GRID, "retry=true"))
    assert (folder / "order.txt").read_text().splitlines() == [*ran, "easy-seed1"]
    assert run_state(folder / "easy-seed1") is State.FINISHED
    assert "4 of 4 runs are finished" in capsys.readouterr().out


def test_a_run_that_is_killed_has_failed_and_says_so(sweep_file, tmp_path, stand_in):
    stand_in(hang=["seed0"])

    def kill_it():
        metrics = tmp_path / "sweep/seed0/metrics.csv"
        while not metrics.exists():
            time.sleep(0.02)
        words = ["pgrep", "-f", f"{tmp_path}/sweep/seed0$"]
        pid = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[0]
        os.kill(int(pid), signal.SIGKILL)

    threading.Thread(target=kill_it, daemon=True).start()
    with pytest.raises(RunFailed, match="seed0: killed by signal 9"):
        run_sweep(sweep_file("axes: {seed: [0]}\n"))
    assert read_failure(tmp_path / "sweep/seed0").startswith("killed by signal 9")


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_runs_and_the_same_command_resumes_them(
    which, sweep_file, tmp_path, stand_in
):
    folder = tmp_path / "sweep"
    stand_in(hang=["hard-seed0", "easy-seed1"])
    started = [folder / "easy-seed1/metrics.csv", folder / "hard-seed0/metrics.csv"]
    interrupt_when(lambda: all(path.exists() for path in started), [which])
    with pytest.raises(SweepStopped) as stopped:
        run_sweep(sweep_file(GRID, "jobs=2"))
    assert stopped.value.signal_number == which
    assert "2 runs under way" in str(stopped.value)
    assert run_state(folder / "hard-seed0") is State.STOPPED
    assert run_state(folder / "hard-seed1") is State.NEW

    stand_in()
    run_sweep(sweep_file(GRID))
    order = (folder / "order.txt").read_text().splitlines()
    assert sorted(order[3:5]) == ["easy-seed1", "hard-seed0"]  # those under way come first
    assert order[5:] == ["hard-seed1"]


def test_another_experiment_under_the_same_names_is_refused(sweep_file, tmp_path, stand_in):
    run_sweep(sweep_file("axes: {seed: [0, 1]}\n"))
    with pytest.raises(UserError) as refused:
        run_sweep(sweep_file("axes: {seed: [0, 1]}\n", "optim.learning_rate=0.01"))
    lines = str(refused.value).splitlines()
    assert len(lines) == 2
    assert "optim.learning_rate: the run in" in lines[0]
    assert "has 0.003, found 0.01; a resumed run keeps its experiment" in lines[0]


def test_two_sweeps_cannot_share_a_folder(sweep_file, tmp_path, stand_in):
    (tmp_path / "sweep").mkdir()
    with open(tmp_path / "sweep/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="in use by another sweep"):
            run_sweep(sweep_file("axes: {seed: [0]}\n"))


def test_a_run_that_an_earlier_sweep_left_behind_is_waited_for(sweep_file, tmp_path, stand_in):
    """Its sweep was killed, and it goes on alone."""
    folder = tmp_path / "sweep/seed0"
    file = sweep_file("axes: {seed: [0]}\n")
    run_sweep(file)
    results = (folder / "results.json").read_text()
    (folder / "results.json").unlink()
    (tmp_path / "sweep/order.txt").unlink()
    lock = open(folder / ".lock", "w")  # noqa: SIM115
    fcntl.flock(lock, fcntl.LOCK_EX)

    def finish():
        time.sleep(0.5)
        (folder / "results.json").write_text(results)
        lock.close()

    threading.Thread(target=finish, daemon=True).start()
    run_sweep(file)
    assert not (tmp_path / "sweep/order.txt").exists()


def test_a_run_that_another_process_has_taken_has_not_failed(sweep_file, tmp_path):
    """A process of an earlier sweep began it between our look at its lock and our start."""
    file = sweep_file("axes: {seed: [0]}\n")
    (run,) = plan_runs(file, cross_axes(file))
    run.folder.mkdir(parents=True)
    (run.folder / OUTPUT).write_text(f"cmgems pretrain: run.dir: {run.folder} {IN_USE}\n")
    assert classify_exit(FinishedJob(run, 2)) is None
    assert run_state(run.folder) is not State.FAILED
    (run.folder / OUTPUT).write_text("cmgems pretrain: no luck\n")
    assert classify_exit(FinishedJob(run, 2)).reason == "no luck"
    assert run_state(run.folder) is State.FAILED


def test_cores_and_gpus_are_divided_among_slots(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert (
        slot_environment(1, num_slots=2, devices=1, num_cores=8, gpus=[])["OMP_NUM_THREADS"] == "4"
    )
    assert (
        slot_environment(0, num_slots=4, devices=1, num_cores=2, gpus=[])["OMP_NUM_THREADS"] == "1"
    )
    gpus = ["0", "1", "2", "3"]
    visible = [slot_environment(slot, 2, 2, 8, gpus)["CUDA_VISIBLE_DEVICES"] for slot in range(2)]
    assert visible == ["0,1", "2,3"]
    visible = [slot_environment(slot, 3, 1, 8, ["5"])["CUDA_VISIBLE_DEVICES"] for slot in range(3)]
    assert visible == ["5", "5", "5"]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert slot_environment(0, 2, 1, 8, [])["OMP_NUM_THREADS"] == "3"


def test_steps_done_reads_the_last_whole_line(tmp_path):
    assert steps_done(tmp_path) == 0
    (tmp_path / "metrics.csv").write_text("step,name,value\n3,a,1.0\n12,b,2.0\n14,tra")
    assert steps_done(tmp_path) == 12


def test_submitit_runs_a_sweep(sweep_file, tmp_path, stand_in):
    """Its local executor: the way of Slurm, without a cluster."""
    folder = tmp_path / "sweep"
    stand_in(fail={"easy-seed0": "no luck"})
    with pytest.raises(RunFailed, match="easy-seed0: no luck"):
        run_sweep(sweep_file(GRID, "executor=submitit-local", "jobs=2", "only=?*-seed0"))
    assert run_state(folder / "hard-seed0") is State.FINISHED
    stand_in(hang=["easy-seed0"])
    interrupt_when((folder / "easy-seed0/metrics.csv").exists, [signal.SIGTERM])
    again = ("executor=submitit-local", "only=?*-seed0", "retry=true")
    with pytest.raises(SweepStopped):
        run_sweep(sweep_file(GRID, *again))
    assert run_state(folder / "easy-seed0") is State.STOPPED
    stand_in()
    run_sweep(sweep_file(GRID, *again))
    assert run_state(folder / "easy-seed0") is State.FINISHED


def test_killed_and_restarted_it_ends_with_the_same_results(
    tiny, sweep_file, tmp_path, monkeypatch
):
    """A real run, whose first session ends with a second signal, which kills."""
    monkeypatch.setattr("cmgems.sweeps.scheduler.POLL_SECONDS", 0.05)
    folder = tmp_path / "sweep/random"
    steps = ["train.max_steps=15", "validation.windows=2"]
    file = sweep_file("axes: {curriculum: {strategies: [[random]]}}\n", *tiny, *steps)
    interrupt_when(lambda: steps_done(folder) > 3, [signal.SIGINT] * 2)
    with pytest.raises(SweepStopped):
        run_sweep(file)
    assert run_state(folder) is State.STOPPED
    assert 3 < steps_done(folder) < 15
    run_sweep(file)
    whole = tmp_path / "whole"
    pretrain(load(EXPERIMENTS / "pretrain/random.yaml", [*tiny, *steps, f"run.dir={whole}"]))
    resumed, uninterrupted = (
        json.loads((path / "results.json").read_text()) for path in (folder, whole)
    )
    for name in ("initial", "final", "masked_fraction", "tokens", "best_step"):
        assert resumed[name] == uninterrupted[name], name
