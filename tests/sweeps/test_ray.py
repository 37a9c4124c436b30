"""Sweeps on a real Ray of two cores; `make test-ray`, where its wheel installs."""

import os
import signal
import sys

import pytest
from helpers.paths import EXPERIMENTS
from helpers.sweeps import GRID, interrupt_when

from cmgems.errors import RunFailed, SweepStopped, UserError
from cmgems.runs.experiment import load
from cmgems.sweeps.config import Ray
from cmgems.sweeps.ray_cluster import RayExecutor
from cmgems.sweeps.run import run_sweep
from cmgems.sweeps.state import State, run_state

ON_RAY = pytest.mark.skipif(os.environ.get("CMGEMS_RAY") != "1", reason="make test-ray runs it")


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"ray is not installed; pip install 'cmgems\[ray\]'"):
        RayExecutor(Ray())


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray", reason="wanted: pip install cmgems[ray]")
    os.environ.setdefault("RAY_worker_niceness", "0")  # on a machine that does other things as well
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@ON_RAY
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_sweep_is_stopped_and_resumed(ray, stand_in, sweep_file, tmp_path):
    folder, names = tmp_path / "sweep", ["easy-seed0", "hard-seed0"]
    stand_in(hang=names)
    started = [folder / name / "metrics.csv" for name in names]
    interrupt_when(lambda: all(path.exists() for path in started), [signal.SIGTERM])
    with pytest.raises(SweepStopped):
        run_sweep(sweep_file(GRID, "executor=ray", "only=?*-seed0"))
    assert [run_state(folder / name) for name in names] == [State.STOPPED] * 2
    stand_in(fail={"easy-seed0": "no luck"})
    with pytest.raises(RunFailed, match="no luck"):
        run_sweep(sweep_file(GRID, "executor=ray", "only=?*-seed0"))
    states = [run_state(folder / name) for name in names]
    assert states == [State.FAILED, State.FINISHED]


@ON_RAY
@pytest.mark.filterwarnings("ignore")
def test_a_real_run(ray, tiny, sweep_file, tmp_path):
    from cmgems.pretraining import pretrain
    from cmgems.runs.folder import RunFolder

    run_sweep(sweep_file("axes: {seed: [3]}\n", *tiny, "train.max_steps=3", "executor=ray"))
    overrides = [*tiny, "train.max_steps=3", "seed=3", f"run.dir={tmp_path / 'here'}"]
    wanted = pretrain(load(EXPERIMENTS / "pretrain/base.yaml", overrides))
    assert RunFolder(tmp_path / "sweep/seed3").read_results()["final"] == wanted["final"]
