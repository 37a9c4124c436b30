"""Ranks that Lightning starts on this machine: none outlives another, and one line says which died.

(Lightning's own watch kills the first rank without a word, and nothing watches for that one's end.)
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from subprocess import Popen
from typing import Any

import torch.distributed as dist
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.strategies.launchers.subprocess_script import _set_num_threads_if_needed
from lightning.pytorch.utilities import rank_zero_only

from cmgems.errors import RunFailed
from cmgems.utils.signals import STOP_SIGNALS

FIRST_RANK = "CMGEMS_FIRST_RANK"  # the process of the first rank, for those that it starts
POLL_SECONDS = 0.5
# What a rank has to end by itself, once another one is dead: it may wait for that one for ever.
GRACE_SECONDS = 8.0
_over = threading.Event()  # the run has ended, or reports by itself why it does
REMEDY = "saved states are older; run.resume=true resumes the run"


class RankLauncher(_SubprocessScriptLauncher):
    """Lightning's launcher, with a watch that says why it ends the run."""

    def launch(self, function: Callable, *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        self.cluster_environment.validate_settings(
            num_devices=self.num_processes, num_nodes=self.num_nodes
        )
        if not self.cluster_environment.creates_processes_externally:
            os.environ[FIRST_RANK] = str(os.getpid())
            try:
                self._call_children_scripts()
            finally:
                del os.environ[FIRST_RANK]  # it is for the ranks, not for what comes after the run
            _watch(lambda: dead_rank(self.procs), self._kill_all)
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)

    def _kill_all(self) -> int:
        code = stop_code(self.procs)
        for process in self.procs:
            process.kill()
        return code


def dead_rank(processes: list[Popen]) -> str:
    """Which of the ranks that were started has failed, and how; empty where none has."""
    for rank, process in enumerate(processes, 1):
        code = process.poll()
        if code:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            return f"rank {rank} {how}"
    return ""


def stop_code(processes: list[Popen]) -> int:
    """What this rank ends with: as another one that a signal has stopped, else 1.

    Such a signal kills a rank that is still being started, and makes a later one save itself.
    """
    codes = {process.poll() for process in processes}
    stopped = (128 + number for number in STOP_SIGNALS if codes & {128 + number, -number})
    return min(stopped, default=1)


def dead_first_rank() -> str:
    """The same, for a process that the first rank has started."""
    gone = FIRST_RANK in os.environ and os.getppid() != int(os.environ[FIRST_RANK])
    return "rank 0 is gone" if gone else ""


def watch_first_rank() -> None:
    """End this process some seconds after the one that started it, whatever it waits for."""
    if FIRST_RANK in os.environ and os.getpid() != int(os.environ[FIRST_RANK]):
        _watch(dead_first_rank, lambda: 1)


def _watch(dead: Callable[[], str], clean_up: Callable[[], int]) -> None:
    """End this process some seconds after `dead` gives a reason, with the code of `clean_up`."""
    _over.clear()

    def wait_and_end() -> None:
        while not (reason := dead()):
            if _over.wait(POLL_SECONDS):
                return
        if _over.wait(GRACE_SECONDS):
            return
        code = clean_up()
        print(
            f"cmgems pretrain: {reason}, so this rank ends; {REMEDY}", file=sys.stderr, flush=True
        )
        os._exit(code)

    threading.Thread(target=wait_and_end, name="watch of the ranks", daemon=True).start()


@contextmanager
def lost_connections_reported(launcher: object) -> Iterator[None]:
    """Report that another rank is gone in one line that names it, where that is known.

    Raises
    ------
    RunFailed
        In place of the error of a connection between ranks.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_lost_connection(error):
            raise
        processes = launcher.procs if isinstance(launcher, RankLauncher) else []
        until = time.monotonic() + GRACE_SECONDS / 2
        while not (reason := dead_rank(processes) or dead_first_rank()):
            if time.monotonic() > until:
                rank = rank_zero_only.rank  # type: ignore[attr-defined]  # Lightning sets it
                reason = f"rank {rank} has lost the connection to another rank"
                break
            time.sleep(POLL_SECONDS / 5)
        code = stop_code(processes)
        for process in processes:
            process.kill()
        raise RunFailed(f"{reason}, so the run ends; {REMEDY}", code) from error
    finally:
        _over.set()


def is_lost_connection(error: RuntimeError) -> bool:
    """Whether this is what torch raises where another rank does not answer."""
    kinds = (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)
    words = ("gloo", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
    return isinstance(error, kinds) or any(word in str(error) for word in words)
