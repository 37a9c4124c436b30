"""The folder of a run: resolved config, checkpoints, logs, results.

config.yaml        the resolved experiment; `cmgems pretrain config.yaml run.dir=NEW` repeats it
checkpoints/       last.ckpt, best.ckpt and those that are kept, each with a .sha256 next to it
parent.yaml        of a branch (`cmgems branch`): the config.yaml of the run that it goes on from
events.out.*       TensorBoard
metrics.csv        the same scalars, one per line: step,name,value
initial.json       with model.init: PATH, the file that the run's weights began as
csv/, wandb/, mlruns/, trackers.json    of the loggers that train.loggers names
results.json       the final results, where they come from and what they cost
window_sums.npz    what is measured at the end, by window (`cmgems.training.judge.WindowSums`)
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

import numpy as np

from cmgems.config.loading import dump
from cmgems.config.options import get_value, plain_value
from cmgems.config.schema import Experiment
from cmgems.errors import UserError
from cmgems.runs.experiment import diff, load
from cmgems.utils.files import atomic_write, file_lock, is_temporary, read_json

# A resumed run may change them: they say how it is computed and watched, not what is computed.
RESUMABLE_KEYS = (
    "train.accelerator",
    "train.devices",
    "train.nodes",
    "train.strategy",
    "train.compile",
    "train.loggers",
    "train.figures",
    "train.profile",
    "train.log_every_n_steps",
    "probe.every_n_steps",
    "probe.tasks",
    "probe.root",
    "probe.shots",
    "name",
)
PACKAGES = ("cmgems", "torch", "lightning", "torchmetrics", "tokenizers", "numpy", "numba")
WINDOW_SUMS = "window_sums.npz"
IN_USE = "is in use by another process"  # a sweep knows such a run by this message
LOCK = ".lock"  # exists while a process is at work in the folder
INITIAL = "initial.json"
LAST, BEST = "last.ckpt", "best.ckpt"


class RunFolder:
    """A run's folder, locked while the run is under way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path | None:
        """The checkpoint from which the run resumes, if there is one."""
        path = self.checkpoints / LAST
        return path if path.exists() else None

    @property
    def parent(self) -> Path:
        """The experiment that the run was branched from, if it was."""
        return self.path / "parent.yaml"

    @property
    def results(self) -> Path:
        return self.path / "results.json"

    def experiment(self) -> Experiment:
        """Read the run's experiment."""
        return load(self.path / "config.yaml")

    @contextmanager
    def acquire(self, experiment: Experiment) -> Iterator[None]:
        """Hold the folder for a run of this process, new or resumed, and lock out all others.

        Raises
        ------
        UserError
            If the folder holds another run, or another process is at work in it.
        """
        config = self.path / "config.yaml"
        if self.holds_nothing():
            if experiment.run.resume is True and not self.path.exists():
                raise UserError(f"run.resume: {self.path} holds no run (no config.yaml) to resume")
        elif experiment.run.resume:
            self._check_resumable(experiment, config)
        else:
            content = "a finished run" if self.results.exists() else "files, perhaps a stopped run"
            raise UserError(
                f"run.dir: {self.path} holds {content}; wanted an empty or new folder "
                f"(run.dir=PATH), or run.resume=true to resume it"
            )
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        with file_lock(self.path / LOCK, f"run.dir: {self.path} {IN_USE}"):
            self.write_config(experiment)
            yield

    def holds_nothing(self) -> bool:
        """Whether there is nothing to lose: no folder, or one without a file that says anything,
        such as a run leaves that is killed before its config.yaml is written."""
        files = (file for file in self.path.rglob("*") if not file.is_dir())
        return all(file.name == LOCK or is_temporary(file) for file in files)

    def _check_resumable(self, experiment: Experiment, config: Path) -> None:
        if not config.exists():
            raise UserError(f"run.resume: {self.path} holds no run (no config.yaml) to resume")
        conflicts = self.conflicts(experiment)
        if conflicts:
            raise UserError(conflicts[0])

    def conflicts(self, experiment: Experiment) -> list[str]:
        """What keeps `experiment` from resuming the run in this folder, one line per key.

        Raises
        ------
        UserError
            If the folder's config.yaml cannot be read.
        """
        started = self.experiment()
        return [
            f"{key}: the run in {self.path} has {plain_value(get_value(started, key))!r}, found "
            f"{plain_value(get_value(experiment, key))!r}; a resumed run keeps its experiment"
            for key in diff(started, experiment)
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

    def write_initial_weights(self, origin: dict[str, Any]) -> None:
        """Keep what the weights began as: the run is resumed without reading it again."""
        with atomic_write(self.path / INITIAL) as handle:
            json.dump(origin, handle, indent=2)

    def read_initial_weights(self) -> dict[str, Any]:
        """{"initial_weights": what was written}, or {} where the weights were drawn."""
        path = self.path / INITIAL
        if not path.exists():
            return {}
        return {"initial_weights": read_json(path, "what a run with model.init: PATH wrote")}

    def write_window_sums(self, arrays: dict[str, np.ndarray]) -> None:
        with atomic_write(self.path / WINDOW_SUMS, "wb") as handle:
            np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]  # taken for flags

    def write_results(self, results: dict[str, Any]) -> None:
        with atomic_write(self.results) as handle:
            json.dump(results, handle, indent=2)
            handle.write("\n")

    def read_results(self) -> dict[str, Any]:
        """The results of the finished run.

        Raises
        ------
        UserError
            If they are damaged or of another version.
        """
        wanted = "the results of a finished run; without the file, run.resume=true writes it anew"
        results = read_json(self.results, wanted)
        if "final" not in results:
            raise UserError(f"{self.results}: has no 'final', wanted {wanted}")
        return results


def provenance() -> dict[str, Any]:
    """What the results of a run depend on besides its experiment."""
    import torch  # seconds, for those who read folders alone

    versions = {name: metadata.version(name) for name in PACKAGES}
    return {
        "versions": versions | {"torch": torch.__version__},  # names the CUDA that it is built for
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
