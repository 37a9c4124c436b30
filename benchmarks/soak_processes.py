"""Processes of the soak: commands that are started, killed in the middle, and what they leave."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from soak_outcomes import LOST, TRACEBACK, Trial

import cmgems.hub.folder
import cmgems.pretraining
import cmgems.sweeps.run  # noqa: F401  # imported once, and not in each forked child
from cmgems.cli import main

SECONDS = 3000  # after which a command counts as hanging
PROGRAM = "import sys, cmgems.cli; sys.exit(cmgems.cli.main())"
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")  # names of audit events


class Ended(NamedTuple):
    """How a command ended."""

    code: int  # negative: the number of the signal that killed it; -1000: it hung
    text: str  # standard output and error

    @property
    def has_traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.text

    @property
    def last_line(self) -> str:
        lines = self.text.replace("\r", "\n").strip().splitlines()
        return lines[-1][:200] if lines else ""


class Child:
    """A command in a process group of its own.

    It is forked, with everything imported; with a shell command, which ends with "$@", it is a
    program of its own.
    """

    def __init__(
        self,
        argv: list[str],
        log: Path,
        *,
        before: Callable[[], None] = lambda: None,
        shell: str = "",
    ) -> None:
        self.log = log
        self.ended: Ended | None = None
        log.parent.mkdir(parents=True, exist_ok=True)
        if shell:
            command = ["bash", "-c", shell, "bash", sys.executable, "-c", PROGRAM, *argv]
            with open(log, "ab") as output:
                self.process = subprocess.Popen(
                    command, stdout=output, stderr=output, start_new_session=True
                )
            self.pid = self.process.pid
            return
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            _be_child(argv, log, before)

    def send(self, number: int, target: str = "group") -> None:
        """Send a signal to the processes of the group that are left, the parent or its child."""
        children = f"/proc/{self.pid}/task/{self.pid}/children"
        try:
            if target == "group":
                os.killpg(self.pid, number)
            elif target == "parent":
                os.kill(self.pid, number)
            else:
                for child in Path(children).read_text().split():
                    os.kill(int(child), number)
        except (ProcessLookupError, FileNotFoundError):
            return  # it has ended

    def wait(self, seconds: float = SECONDS) -> Ended | None:
        """How it ended, or None if it has not within this time."""
        end = time.monotonic() + seconds
        while self.ended is None and time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                text = self.log.read_text("utf-8", "replace")
                self.ended = Ended(os.waitstatus_to_exitcode(status), text)
            else:
                time.sleep(0.02)
        return self.ended

    def finish(self) -> Ended:
        """Wait for the end; a command that hangs is killed."""
        ended = self.wait()
        if ended is None:
            self.send(signal.SIGKILL)
            self.wait(30)
            return Ended(-1000, self.log.read_text("utf-8", "replace"))
        return ended


def _be_child(argv: list[str], log: Path, before: Callable[[], None]) -> None:
    code = 1
    try:
        os.setsid()
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for number in (1, 2):
            os.dup2(descriptor, number)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        # the other ranks of a run are started with these arguments
        sys.argv = [str(Path(sys.executable).with_name("cmgems")), *argv]
        before()
        code = main(argv)
        sys.stdout.flush()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # what Python would print, in a process that may not return
        traceback.print_exc()
    os._exit(code)


def run(argv: list[str], log: Path, **options: Any) -> Ended:
    return Child(argv, log, **options).finish()


def fault(ended: Ended, what: str, codes: tuple[int, ...] = (0,)) -> Trial | None:
    """The trial of a command that did not end as it should."""
    if ended.has_traceback:
        return Trial(TRACEBACK, f"{what}: {ended.last_line}")
    if ended.code not in codes:
        return Trial(LOST, f"{what}: code {ended.code}, {ended.last_line}")
    return None


def left_over(folder: Path, seconds: float = 300) -> list[int]:
    """Processes that have the folder in their arguments and do not end within this time.

    (It takes 8 seconds where they run, `tests/training/test_ranks.py`; but a rank that is still
    being started sees that the first one is gone only then, on a busy machine after minutes.)
    """
    end = time.monotonic() + seconds
    while (found := _with_argument(str(folder))) and time.monotonic() < end:
        time.sleep(0.2)
    return found


def _with_argument(text: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text in path.read_text("utf-8", "replace"):
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    return found


def die_at_operation(number: int, folder: Path) -> Callable[[], None]:
    """What kills a process just before the `number`-th change of a file in `folder`."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & WRITING:
                return
        elif event in CHANGES:
            path = arguments[0]
        else:
            return
        if isinstance(path, str | Path) and os.path.abspath(path).startswith(str(folder)):
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    return lambda: sys.addaudithook(hook)


def fingerprint(folder: Path) -> dict[str, Any]:
    """All that a finished run has computed, to be compared bit for bit."""
    lines = (folder / "metrics.csv").read_text().splitlines()
    last, best = (
        torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)
        for name in ("last", "best")
    )
    total = hashlib.sha256()
    for name, tensor in sorted(last["state_dict"].items()):
        total.update(name.encode() + tensor.numpy().tobytes())
    results = json.loads((folder / "results.json").read_text())
    return {
        "scalars": sorted(line for line in lines if ",speed/" not in line),
        "weights": total.hexdigest(),
        "final": results["final"],
        "best_step": results["best_step"],
        "step of best.ckpt": best["global_step"],
    }


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The names of what differs; empty: nothing."""
    return ", ".join(name for name, value in wanted.items() if found[name] != value)
