"""What processes do about the launcher that started them: torchrun or srun."""

import os

import pytest
from helpers.paths import EXPERIMENTS
from torch.distributed import TCPStore

from cmgems.cli import main
from cmgems.config.schema import Train
from cmgems.errors import UserError
from cmgems.training.distributed import check_launch, leave_store_of_torchrun

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


@pytest.mark.parametrize(
    ("attempt", "nodes", "leaves"), [("0", "1", False), ("1", "1", True), ("1", "2", False)]
)
def test_processes_started_again_meet_in_a_store_of_their_own(attempt, nodes, leaves, monkeypatch):
    shared = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    ports = []
    for rank in "01":
        of_torchrun = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(shared.port),
            "RANK": rank,
            "GROUP_WORLD_SIZE": nodes,
            "TORCHELASTIC_RESTART_COUNT": attempt,
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
        for name, value in of_torchrun.items():
            monkeypatch.setenv(name, value)
        leave_store_of_torchrun()
        assert os.environ["TORCHELASTIC_USE_AGENT_STORE"] == str(not leaves)
        ports.append(os.environ["MASTER_PORT"])
    assert len(set(ports)) == 1
    assert (ports[0] != str(shared.port)) == leaves
