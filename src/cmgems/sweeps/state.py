"""How far the runs of a sweep have come, as their folders say."""

import os
from enum import Enum
from pathlib import Path

from cmgems.errors import UserError
from cmgems.runs.folder import RunFolder
from cmgems.sweeps.plan import Planned
from cmgems.utils.files import atomic_write

OUTPUT = "output.log"  # of the run's process
FAILURE = "failed.txt"  # one line: why


class State(Enum):
    NEW = "new"
    STOPPED = "stopped"  # begun, neither finished nor failed
    FAILED = "failed"
    FINISHED = "finished"


def state(folder: Path) -> State:
    if (folder / "results.json").exists():
        return State.FINISHED
    if (folder / FAILURE).exists():
        return State.FAILED
    return State.STOPPED if (folder / "config.yaml").exists() else State.NEW


def check_unchanged(planned: list[Planned]) -> None:
    """Refuse a sweep whose folder holds runs of the same name with another experiment.

    Raises
    ------
    UserError
        With a line for each run and key that differ.
    """
    problems = []
    for run in planned:
        folder = RunFolder(run.folder)
        if (run.folder / "config.yaml").exists():
            problems += folder.conflicts(run.experiment)
        elif run.folder.exists() and any(run.folder.iterdir()):
            problems.append(f"{run.folder}: holds something else, wanted a run or nothing")
    if problems:
        raise UserError("\n".join(problems))


def failure(folder: Path) -> str:
    return (folder / FAILURE).read_text().strip()


def note_failure(folder: Path, reason: str) -> None:
    with atomic_write(folder / FAILURE) as handle:
        handle.write(reason + "\n")


def forget_failure(folder: Path) -> None:
    (folder / FAILURE).unlink(missing_ok=True)


def reason(folder: Path, code: int | None) -> str:
    """Why a run's process ended: its last word, and the signal if one killed it."""
    if code is not None and code < 0:
        return f"killed by signal {-code}; see {folder / OUTPUT}"
    lines = _tail(folder / OUTPUT)
    spoken = [line for line in lines if line.startswith("cmgems pretrain: ")]
    last = (spoken or lines or [f"no output; exit code {code}"])[-1]
    return last.removeprefix("cmgems pretrain: ")


def steps_done(folder: Path) -> int:
    """The step of the last line of a run's metrics.csv, 0 if there is none."""
    for line in reversed(_tail(folder / "metrics.csv", 400)):
        word = line.split(",")[0]
        if word.isdigit() and line.count(",") == 2:
            return int(word)
    return 0


def _tail(path: Path, size: int = 4000) -> list[str]:
    try:
        with open(path, "rb") as handle:
            handle.seek(0, os.SEEK_END)
            handle.seek(max(handle.tell() - size, 0))
            text = handle.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]
