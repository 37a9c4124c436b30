"""A launcher that starts another number of processes than the experiment has is refused."""

import pytest
from helpers.paths import EXPERIMENTS

from cmgems.cli import main
from cmgems.config.schema import Train
from cmgems.errors import UserError
from cmgems.training.distributed import check_launch

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}
SRUN = {"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_PROCID": "3", "SLURM_JOB_NAME": "run"}


@pytest.mark.parametrize("environment", [TORCHRUN, SRUN])
def test_the_launchers_count_has_to_be_that_of_the_experiment(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    check_launch(Train(devices=4, nodes=2))
    with pytest.raises(UserError, match=r"wanted train\.devices=4 train\.nodes=2"):
        check_launch(Train(devices=8, nodes=1))


def test_without_a_launcher_any_count_will_do(monkeypatch):
    check_launch(Train(devices=8, nodes=2))
    for name, value in SRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    check_launch(Train(devices=1))


def test_pretrain_reports_it_in_one_line(monkeypatch, capsys, tmp_path):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    experiment = str(EXPERIMENTS / "pretrain/quickstart.yaml")
    assert main(["pretrain", experiment, f"run.dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert "torchrun started 4 processes on each of 2 nodes" in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())
