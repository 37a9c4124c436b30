"""What the drive loop knows of a place where runs are computed."""

import sys
from typing import NamedTuple, Protocol

from cmgems.sweeps.plan import Planned


class Ended(NamedTuple):
    """A run whose process is over."""

    run: Planned
    code: int | None  # exit code; None where it is not known
    word: str = ""  # of the cluster, where the run's own output says nothing


class Jobs(Protocol):
    """Runs that are being computed."""

    running: dict[str, Planned]  # by name

    def room(self) -> int:
        """How many more can be started now."""

    def start(self, run: Planned) -> None: ...

    def ended(self) -> list[Ended]:
        """Those that are over since the last call; they are not running any more."""

    def stop(self) -> None:
        """Ask all to save and stop."""

    def kill(self) -> None:
        """End all at once."""


def command(run: Planned) -> list[str]:
    """Begin or go on with a run; its folder holds its config.yaml."""
    config = str(run.folder / "config.yaml")
    own = [f"run.dir={run.folder}", "run.resume=true"]
    return [sys.executable, "-m", "cmgems", "pretrain", config, *own]
