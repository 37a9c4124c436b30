"""Lightning's plugins for a run folder: scalars as CSV, checkpoints that cannot be half written."""

import csv
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from cmgems.errors import UserError
from cmgems.utils.files import atomic_write, hash_file


class ScalarFile(Logger):
    """`metrics.csv`: step,name,value.

    A run that resumes at step n first drops the lines after it, which it will write again; one that
    begins (n = -1) drops all.
    """

    def __init__(self, path: Path, resume_step: int):
        super().__init__()
        self.path = path
        self._resume_step: int | None = resume_step

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self._resume_step is not None:
            self._drop_after(self._resume_step)
            self._resume_step = None
        new = not self.path.exists()
        with open(self.path, "a", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            if new:
                writer.writerow(["step", "name", "value"])
            writer.writerows([step, name, repr(float(value))] for name, value in metrics.items())

    @rank_zero_only
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """The run folder has config.yaml."""

    def _drop_after(self, last: int) -> None:
        if not self.path.exists():
            return
        header, *lines = self.path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and int(line.split(",")[0]) <= last]
        with atomic_write(self.path) as handle:
            handle.writelines([header, *kept])


class SafeCheckpoints(CheckpointIO):
    """Checkpoints written beside, synced and renamed, with their sha256; read without pickle.

    (Lightning's own go through $TMPDIR, so that a kill across file systems destroys the last good
    one, and a flipped bit in a tensor loads silently.)
    """

    def save_checkpoint(self, checkpoint: dict, path, storage_options: Any = None) -> None:
        path = Path(path)
        with atomic_write(path, "wb") as handle:
            torch.save(checkpoint, handle)
            handle.flush()
            # Before the rename, and with the digest of the file that is there now: whenever the
            # process is killed, the checkpoint under `path` is whole and its digest is listed.
            known = [hash_file(Path(handle.name)), *_digests(path)[:1]]
            with atomic_write(_digest_path(path)) as digests:
                digests.writelines(f"{digest}  {path.name}\n" for digest in known)

    def load_checkpoint(self, path, map_location: Any = None, weights_only: Any = None) -> dict:
        check_digest(Path(path))
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path) -> None:
        Path(path).unlink(missing_ok=True)
        _digest_path(Path(path)).unlink(missing_ok=True)


def check_digest(path: Path) -> str:
    """The sha256 of a checkpoint; refuse one that is not what was saved."""
    known = _digests(path)
    if not known:
        raise UserError(
            f"{path}: no {_digest_path(path).name} beside it, wanted a cmgems checkpoint"
        )
    found = hash_file(path)
    if found not in known:
        raise UserError(f"{path}: damaged: its sha256 is {found[:12]}…, saved was {known[0][:12]}…")
    return found


def _digest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _digests(path: Path) -> list[str]:
    """The digests listed beside a checkpoint, the newest first."""
    listed = _digest_path(path)
    return [line.split()[0] for line in listed.read_text().splitlines()] if listed.exists() else []
