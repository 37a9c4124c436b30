"""Lightning's plugins for a run folder: scalars as CSV, checkpoints that cannot be half written."""

import csv
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from cmgems.errors import UserError
from cmgems.runs.identity import IDENTITY_KEY
from cmgems.utils.files import atomic_write, hash_file
from cmgems.utils.plain_pickle import load_plain

# Raised by one when a name in checkpoints changes: of a weight, of a callback, of what a callback
# saves. Lightning finds all of them by name, and would leave out what it does not find.
CHECKPOINT_FORMAT = 3  # the first versions of cmgems saved no number
FORMAT_KEY = "cmgems_format"
# What Lightning saves of a run, as far as it is read without Lightning.
PARTS = {"state_dict": dict, "callbacks": dict, "global_step": int}
HEADER = "step,name,value"  # of metrics.csv


class ScalarFile(Logger):
    """`metrics.csv`: step,name,value.

    A run that resumes at step n first drops the lines after it, which it will write again; one that
    begins (n = -1) drops all. A scalar of step n itself takes the place of the one that is there: a
    run that is killed between its last checkpoint and its results has its final ones already.

    Parameters
    ----------
    path : Path
    resume_step : int
    """

    def __init__(self, path: Path, resume_step: int):
        super().__init__()
        self.path = path
        self.resume_step = resume_step
        self._names: set[str] | None = None  # of the scalars of that step, once the rest is dropped

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self._names is None:
            self._names = self._drop(set())
        if step == self.resume_step and (again := self._names.intersection(metrics)):
            self._names = self._drop(again)
        new = not self.path.exists()
        with open(self.path, "a", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            if new:
                handle.write(f"{HEADER}\n")
            writer.writerows([step, name, repr(float(value))] for name, value in metrics.items())

    @rank_zero_only
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """The run folder has config.yaml."""

    def _drop(self, again: set[str]) -> set[str]:
        """Drop the lines of later steps, a last line that a kill has cut off, and those of the step
        of the resumption with these names; the names that are left of it."""
        if not self.path.exists():
            return set()
        lines = read_scalar_lines(self.path, self.resume_step)
        head = f"{self.resume_step},"
        names = {line: line.split(",")[1] for line in lines if line.startswith(head)}
        with atomic_write(self.path) as handle:
            handle.write(f"{HEADER}\n")
            handle.writelines(line for line in lines if names.get(line) not in again)
        return set(names.values()) - again


def read_scalar_lines(path: Path, last: int) -> list[str]:
    """The whole lines of a `metrics.csv` up to a step, without its header.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    try:
        lines = path.read_text().splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}), wanted {HEADER}") from error
    return [line for line in lines if _step_of(line, after=last) <= last]


def _step_of(line: str, after: int) -> int:
    """The step of a line of `metrics.csv`; one later than `after` for what is no such line."""
    parts = line.split(",")
    whole = line.endswith("\n") and len(parts) == 3 and parts[0].isdecimal()
    return int(parts[0]) if whole else after + 1


class SafeCheckpoints(CheckpointIO):
    """Checkpoints written to a temporary file, synced and renamed, with their sha256, the number of
    their format and the identity of their run; read without pickle.

    (Lightning's own go through $TMPDIR, so that a kill across file systems destroys the last good
    one, and a flipped bit in a tensor loads silently.)

    Parameters
    ----------
    identity : dict
        What `cmgems.runs.identity` compares.
    """

    def __init__(self, identity: Mapping[str, Any]):
        self.identity = dict(identity)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        path = Path(path)
        with atomic_write(path, "wb") as handle:
            own = {FORMAT_KEY: CHECKPOINT_FORMAT, IDENTITY_KEY: self.identity}
            torch.save({**checkpoint, **own}, handle)
            _list_digest(path, handle)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path), map_location or "cpu").content

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)
        _digest_path(Path(path)).unlink(missing_ok=True)


class Checkpoint(NamedTuple):
    """A checkpoint that was read."""

    content: dict[str, Any]  # as Lightning saves it: `state_dict`, `global_step`, `callbacks`, ...
    sha256: str  # of the file


def read_checkpoint(path: Path, map_location: Any = "cpu") -> Checkpoint:
    """Read a checkpoint of this version of cmgems.

    Parameters
    ----------
    path : Path
    map_location : device or str
        As in `torch.load`; `meta` reads no weights.

    Raises
    ------
    UserError
        If the file is not what was saved, holds something else than a checkpoint, or another
        version of cmgems made it.
    """
    sha256 = check_digest(path)
    content = load_plain(path, map_location, "a cmgems checkpoint")
    has_parts = isinstance(content, dict) and all(
        isinstance(content.get(name), kind) for name, kind in PARTS.items()
    )
    found = content.get(FORMAT_KEY, 1) if has_parts else None
    if not isinstance(found, int):
        raise UserError(f"{path}: is not the state of a run, wanted a cmgems checkpoint")
    if found != CHECKPOINT_FORMAT:
        is_earlier = found < CHECKPOINT_FORMAT
        version, remedy = (
            ("an earlier", "start the run anew") if is_earlier else ("a later", "update cmgems")
        )
        raise UserError(
            f"{path}: found checkpoint format {found}, wanted {CHECKPOINT_FORMAT}: it was made by "
            f"{version} version of cmgems and cannot be read; {remedy}"
        )
    return Checkpoint(content, sha256)


def copy_checkpoint(source: Path, path: Path) -> None:
    """Make `path` a checkpoint with the content of `source`, written as safely as the first one."""
    with atomic_write(path, "wb") as handle:
        with open(source, "rb") as content:
            shutil.copyfileobj(content, handle)
        _list_digest(path, handle)


def check_digest(path: Path) -> str:
    """The sha256 of a checkpoint.

    Raises
    ------
    UserError
        If the file is not what was saved.
    """
    known = _read_digests(path)
    if not known:
        raise UserError(
            f"{path}: no {_digest_path(path).name} next to it, wanted a cmgems checkpoint"
        )
    found = hash_file(path)
    if found not in known:
        raise UserError(f"{path}: damaged: its sha256 is {found[:12]}…, saved was {known[0][:12]}…")
    return found


def _list_digest(path: Path, handle: IO[bytes]) -> None:
    """Write the digest of the file that is about to become `path` next to it.

    Before the rename, and with the digest of the file that is there now: whenever the process is
    killed, the checkpoint under `path` is whole and its digest is listed.
    """
    handle.flush()
    known = [hash_file(Path(handle.name)), *_read_digests(path)[:1]]
    with atomic_write(_digest_path(path)) as digests:
        digests.writelines(f"{digest}  {path.name}\n" for digest in known)


def _digest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _read_digests(path: Path) -> list[str]:
    """The digests listed next to a checkpoint, the newest first."""
    listed = _digest_path(path)
    try:
        lines = listed.read_text().splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{listed}: cannot be read ({error}), wanted digests of {path.name}"
        ) from error
    return [line.split()[0] for line in lines if line.strip()]
