"""Writing files so that no reader ever sees half of one."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cmgems.errors import UserError


@contextmanager
def replacing(path: str | os.PathLike, mode: str = "w") -> Iterator[IO]:
    """Open a file beside `path` that takes its place, synced, when the block ends without an error.

    On an error, Ctrl-C included, `path` is left as it was and nothing stays behind. The file
    beside lies in the same folder: a rename is atomic within one file system only.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, mode) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(beside, path)
        sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def new_folder(path: str | os.PathLike) -> Iterator[Path]:
    """A folder beside `path` that becomes `path`, synced, when the block ends without an error.

    On an error, Ctrl-C included, nothing stays behind. `path` may be an empty folder.

    Raises
    ------
    OSError
        If `path` has become a file or a folder that is not empty.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    beside.mkdir()
    try:
        yield beside
        for file in beside.iterdir():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
        sync_folder(beside)
        os.rename(beside, path)
        sync_folder(path.parent)
    finally:
        if beside.exists():
            shutil.rmtree(beside)


@contextmanager
def locked(folder: Path, key: str = "run.dir", who: str = "process") -> Iterator[None]:
    """Keep other processes of ours out of a folder that a user named by `key`.

    Raises
    ------
    UserError
        If one is at work in it.
    """
    # The file stays: removed, it could be the one that another process already waits on.
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{key}: {folder} is in use by another {who}") from None
        yield


def is_gzip(head: bytes) -> bool:
    """Whether a file that begins with these bytes is packed with gzip."""
    return head[:2] == b"\x1f\x8b"


def sync_folder(folder: str | os.PathLike) -> None:
    """Make a rename inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
