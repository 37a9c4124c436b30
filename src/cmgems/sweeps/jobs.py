"""What the scheduler knows of where runs are computed: the protocol of an executor."""

import sys
from typing import NamedTuple, Protocol

from cmgems.sweeps.plan import PlannedRun


class FinishedJob(NamedTuple):
    """A run whose process has ended."""

    run: PlannedRun
    exit_code: int | None  # None where it is not known
    cluster_message: str = ""  # where the run's own output does not say why it ended


class Executor(Protocol):
    """Computes runs, several at once."""

    running: dict[str, PlannedRun]  # by name

    def free_slots(self) -> int:
        """How many more runs can be started now."""

    def start(self, run: PlannedRun) -> None:
        """Begin a run, or resume it."""

    def collect(self) -> list[FinishedJob]:
        """The runs that have ended since the last call; they are no longer in `running`."""

    def stop(self) -> None:
        """Ask all runs to save themselves and stop."""

    def kill(self) -> None:
        """End all runs at once."""


def pretrain_command(run: PlannedRun) -> list[str]:
    """The command that begins or resumes a run; its folder holds its config.yaml."""
    config = str(run.folder / "config.yaml")
    overrides = [f"run.dir={run.folder}", "run.resume=true"]
    return [sys.executable, "-m", "cmgems", "pretrain", config, *overrides]
