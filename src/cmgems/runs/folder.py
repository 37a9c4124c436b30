"""The folder of a run: resolved config, checkpoints, logs, results.

config.yaml        the resolved experiment; `cmgems pretrain config.yaml run.dir=NEW` repeats it
checkpoints/       last.ckpt, best.ckpt, each with a .sha256 beside it
events.out.*       TensorBoard
metrics.csv        the same scalars, one line each: step,name,value
results.json       the final figures, where they come from and what they cost
profile/           with train.profile=true: a trace of some steps, and the operations by cost
"""

import fcntl
import json
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from cmgems.config.loading import dump
from cmgems.config.schema import Experiment, get_value
from cmgems.errors import UserError
from cmgems.runs.experiment import diff, load
from cmgems.utils.files import atomic_write, file_lock

# They change how a run is computed and looked at, not what it is.
RESUMABLE_KEYS = (
    "train.accelerator",
    "train.devices",
    "train.nodes",
    "train.strategy",
    "train.compile",
    "train.profile",
    "train.log_every_n_steps",
    "probe.every_n_steps",
    "probe.tasks",
    "probe.root",
    "probe.shots",
    "name",
)
PACKAGES = ("cmgems", "torch", "lightning", "torchmetrics", "tokenizers", "numpy", "numba")


IN_USE = "is in use by another process"  # a sweep knows such a run by this message
LOCK = ".lock"  # there while a process is at work in the folder


class RunFolder:
    """A run's folder, locked while the run goes on."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path | None:
        path = self.checkpoints / "last.ckpt"
        return path if path.exists() else None

    @property
    def results(self) -> Path:
        return self.path / "results.json"

    def experiment(self) -> Experiment:
        return load(self.path / "config.yaml")

    @contextmanager
    def acquire(self, experiment: Experiment) -> Iterator[None]:
        """Make the folder this process's run, new or resumed, and nobody else's meanwhile.

        Raises
        ------
        UserError
            If the folder holds another run, or another process is at work in it.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"run.dir: {self.path} is a file, wanted a folder")
        config = self.path / "config.yaml"
        if experiment.run.resume:
            self._check_resumable(experiment, config)
        elif self.path.exists() and any(self.path.iterdir()):
            what = "a finished run" if self.results.exists() else "something, perhaps a stopped run"
            raise UserError(
                f"run.dir: {self.path} holds {what}; wanted an empty or new folder (run.dir=PATH), "
                f"or run.resume=true to go on with it"
            )
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        with file_lock(self.path / LOCK, f"run.dir: {self.path} {IN_USE}"):
            self.write_config(experiment)
            yield

    def _check_resumable(self, experiment: Experiment, config: Path) -> None:
        if not config.exists():
            raise UserError(f"run.resume: {self.path} holds no run (no config.yaml) to go on with")
        changed = self.conflicts(experiment)
        if changed:
            raise UserError(changed[0])

    def conflicts(self, experiment: Experiment) -> list[str]:
        """What keeps `experiment` from going on with the run in this folder, a line for each key.

        Raises
        ------
        UserError
            If the folder's config.yaml cannot be read.
        """
        before = load(self.path / "config.yaml")
        return [
            f"{key}: the run in {self.path} has {get_value(before, key)!r}, found "
            f"{get_value(experiment, key)!r}; a resumed run keeps its experiment"
            for key in diff(before, experiment)
            if key not in RESUMABLE_KEYS
        ]

    def write_config(self, experiment: Experiment) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path / "config.yaml") as handle:
            handle.write(dump(experiment))

    def in_use(self) -> bool:
        """Whether a process is at work in the folder now."""
        try:
            with open(self.path / LOCK) as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def write_results(self, results: dict[str, Any]) -> None:
        with atomic_write(self.results) as handle:
            json.dump(results, handle, indent=2)
            handle.write("\n")

    def read_results(self) -> dict[str, Any]:
        return json.loads(self.results.read_text())


def provenance() -> dict[str, Any]:
    """What the figures of a run depend on beside its experiment."""
    return {
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "git_revision": git_revision(),
    }


def git_revision() -> str | None:
    """The commit of the source tree, with `+` where it has changes; None outside a checkout."""
    folder = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
