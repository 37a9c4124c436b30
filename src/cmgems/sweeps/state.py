"""How far the runs of a sweep have come, as their folders show."""

import os
from enum import Enum
from pathlib import Path

from cmgems.errors import UserError
from cmgems.runs.folder import RunFolder
from cmgems.sweeps.plan import PlannedRun
from cmgems.utils.files import atomic_write

OUTPUT = "output.log"  # of the run's process
FAILURE = "failed.txt"  # one line: why


class State(Enum):
    NEW = "new"
    STOPPED = "stopped"  # begun, neither finished nor failed
    FAILED = "failed"
    FINISHED = "finished"


def run_state(folder: Path) -> State:
    if (folder / "results.json").exists():
        return State.FINISHED
    if (folder / FAILURE).exists():
        return State.FAILED
    return State.STOPPED if (folder / "config.yaml").exists() else State.NEW


def check_unchanged(planned: list[PlannedRun]) -> None:
    """Refuse a sweep whose folder holds runs of the same name with another experiment.

    Raises
    ------
    UserError
        With one line per run and key that differ.
    """
    problems = []
    for run in planned:
        folder = RunFolder(run.folder)
        if (run.folder / "config.yaml").exists():
            problems += folder.conflicts(run.experiment)
        elif not folder.holds_nothing():
            problems.append(f"{run.folder}: holds something else, wanted a run or nothing")
    if problems:
        raise UserError("\n".join(problems))


def read_failure(folder: Path) -> str:
    return (folder / FAILURE).read_text().strip()


def write_failure(folder: Path, reason: str) -> None:
    with atomic_write(folder / FAILURE) as handle:
        handle.write(reason + "\n")


def clear_failure(folder: Path) -> None:
    (folder / FAILURE).unlink(missing_ok=True)


def failure_reason(folder: Path, exit_code: int | None) -> str:
    """Why a run's process ended: its last message, or the signal that killed it."""
    if exit_code is not None and exit_code < 0:
        return f"killed by signal {-exit_code}; see {folder / OUTPUT}"
    lines = _last_lines(folder / OUTPUT)
    messages = [line for line in lines if line.startswith("cmgems pretrain: ")]
    last = (messages or lines or [f"no output; exit code {exit_code}"])[-1]
    return last.removeprefix("cmgems pretrain: ")


def steps_done(folder: Path) -> int:
    """The step of the last whole line of a run's metrics.csv, 0 if there is none."""
    for line in reversed(_last_lines(folder / "metrics.csv", 400)):
        step = line.split(",")[0]
        if step.isdigit() and line.count(",") == 2:
            return int(step)
    return 0


def _last_lines(path: Path, num_bytes: int = 4000) -> list[str]:
    try:
        with open(path, "rb") as handle:
            handle.seek(0, os.SEEK_END)
            handle.seek(max(handle.tell() - num_bytes, 0))
            text = handle.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]
