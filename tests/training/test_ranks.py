"""A rank that dies ends the others, in one line that names it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.paths import EXPERIMENTS

from cmgems.errors import RunFailed
from cmgems.training import ranks
from cmgems.training.ranks import (
    FIRST_RANK,
    RankLauncher,
    dead_first_rank,
    dead_rank,
    lost_connections_reported,
    stop_code,
)

GLOO = "[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]"


@pytest.fixture
def started():
    """Two processes: one that waits, one that ends with exit code 3."""
    waiting = subprocess.Popen(["sleep", "60"])
    failed = subprocess.Popen(["sh", "-c", "exit 3"])
    failed.wait()
    yield waiting, failed
    waiting.kill()
    waiting.wait()


def launcher(*processes):
    made = RankLauncher(cluster_environment=None, num_processes=3, num_nodes=1)
    made.procs = list(processes)
    return made


def test_the_rank_that_died_is_named(started):
    waiting, failed = started
    assert dead_rank([waiting]) == ""
    assert dead_rank([waiting, failed]) == "rank 2 ended with exit code 3"
    waiting.kill()
    waiting.wait()
    assert dead_rank([waiting]) == "rank 1 was killed by signal 9"


def test_a_rank_that_a_signal_stopped_gives_its_exit_code(started):
    """128 + n, whether it saved itself at signal n or, still being started, was killed by it."""
    stopped, killed, crashed = (
        subprocess.Popen(["sh", "-c", script])
        for script in ("exit 130", "kill -TERM $$", "kill -KILL $$")
    )
    assert (stopped.wait(), killed.wait(), crashed.wait()) == (130, -signal.SIGTERM, -9)
    assert stop_code(list(started)) == 1
    assert stop_code([*started, stopped]) == 130
    assert stop_code([*started, killed]) == 143
    assert stop_code([*started, crashed]) == 1
    with pytest.raises(RunFailed, match="rank 2 was killed by signal 15, so the run ends") as ended:
        with lost_connections_reported(launcher(started[0], killed)):
            raise RuntimeError(GLOO)
    assert ended.value.exit_code == 143


def test_a_lost_connection_is_one_line_and_no_rank_is_left(started, monkeypatch):
    monkeypatch.setattr(ranks, "GRACE_SECONDS", 0.1)
    waiting, failed = started
    with pytest.raises(RunFailed, match=r"^rank 2 ended with exit code 3, so the run ends; saved"):
        with lost_connections_reported(launcher(waiting, failed)):
            raise RuntimeError(GLOO)
    assert waiting.wait(5) == -signal.SIGKILL
    with pytest.raises(RunFailed, match=r"^rank 0 has lost the connection to another rank, so"):
        with lost_connections_reported(None):
            raise RuntimeError(GLOO)


def test_other_errors_are_not_taken_for_it():
    with pytest.raises(RuntimeError, match="a bug"), lost_connections_reported(None):
        raise RuntimeError("a bug")


def test_a_rank_knows_that_the_first_one_is_gone(monkeypatch):
    assert dead_first_rank() == ""  # no other process started this one
    monkeypatch.setenv(FIRST_RANK, str(os.getppid()))
    assert dead_first_rank() == ""
    monkeypatch.setenv(FIRST_RANK, "1000000000")
    assert dead_first_rank() == "rank 0 is gone"


@pytest.mark.skipif("CMGEMS_FAULTS" not in os.environ, reason="make test-faults runs it")
@pytest.mark.parametrize("killed", [0, 1])
def test_no_rank_outlives_another(killed, tiny, tmp_path):
    """A run of two ranks that would take hours."""
    overrides = [*tiny, "train.devices=2", "train.max_steps=300000", f"run.dir={tmp_path / 'run'}"]
    command = [sys.executable, "-m", "cmgems", "pretrain", EXPERIMENTS / "pretrain/random.yaml"]
    with open(tmp_path / "err", "w") as error:
        first = subprocess.Popen([*map(str, command), *overrides], stderr=error)
    try:
        wait_for((tmp_path / "run/checkpoints/best.ckpt").exists, 600)
        children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text()
        (second,) = map(int, children.split())
        os.kill((first.pid, second)[killed], signal.SIGKILL)
        if killed:
            assert first.wait(30) == 1
        else:
            first.wait(5)
        wait_for(lambda: not is_alive(second), 30)
    finally:
        first.kill()
        first.wait()
    reported = [line for line in (tmp_path / "err").read_text().splitlines() if "cmgems" in line]
    reason = "rank 1 was killed by signal 9" if killed else "rank 0 is gone"
    assert len(reported) == 1, reported
    assert f"cmgems pretrain: {reason}, so " in reported[0]  # behind a bar that was cut off
    assert "Traceback" not in (tmp_path / "err").read_text()


def is_alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.2)
