"""A rank of a torchrun job is killed: torchrun starts all again, and the run goes on by itself.

`make test-scaling` runs it: two processes, started three times.
"""

import os
import subprocess
import sys

import pytest
from helpers.paths import EXPERIMENTS
from helpers.runs import assert_same_run

# The second rank kills itself in the first attempt, as a machine out of memory would kill it.
SCRIPT = """
import os, signal, sys
import lightning as L
from cmgems.pretraining import pretrain
from cmgems.runs.experiment import load

class Killed(L.Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if first and trainer.global_rank == 1 and trainer.global_step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

pretrain(load(sys.argv[1], sys.argv[3:]), callbacks=[Killed()])
"""
NEVER = 1000
pytestmark = pytest.mark.skipif(
    "CMGEMS_LAUNCHERS" not in os.environ, reason="make test-scaling runs it"
)


@pytest.fixture(scope="module")
def start(tiny, tmp_path_factory, genome):
    """Starts the job whose second rank dies at a step; returns the run's folder and the output."""
    folder = tmp_path_factory.mktemp("restarts")
    (folder / "script.py").write_text(SCRIPT)

    def started(name, step, *launcher):
        run = folder / name
        overrides = ["train.max_steps=12", "train.devices=2", "run.resume=auto", f"run.dir={run}"]
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node=2", *launcher, folder / "script.py"]
        command += [EXPERIMENTS / "pretrain/cm_gems.yaml", str(step), *tiny, *overrides]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr[-3000:]
        return run, done.stderr

    return started


def test_a_job_whose_rank_is_killed_ends_as_one_that_was_not(start):
    undisturbed, _ = start("undisturbed", NEVER)
    killed, output = start("killed", 7, "--max-restarts=2")
    assert "Signal 9 (SIGKILL)" in output or "exitcode: -9" in output
    assert_same_run(undisturbed, killed)
