"""Writing files so that no reader ever sees half of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


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


def sync_folder(folder: str | os.PathLike) -> None:
    """Make a rename inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
