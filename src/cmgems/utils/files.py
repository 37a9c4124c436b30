"""Files: written so that no reader ever sees half of one, locked, hashed, read as text."""

import errno
import fcntl
import gzip
import hashlib
import os
import shutil
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import IO

from cmgems.errors import UserError


@contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "w") -> Iterator[IO]:
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
        fsync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
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
        fsync_folder(beside)
        os.rename(beside, path)
        fsync_folder(path.parent)
    finally:
        if beside.exists():
            shutil.rmtree(beside)


@contextmanager
def file_lock(lock: Path, busy: str, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock that is a file of this name; no file is left behind.

    Parameters
    ----------
    busy : what to tell the user where another process holds the lock
    wait : until the other process is done, instead

    Raises
    ------
    UserError
        If another process holds the lock.
    """
    while True:
        with open(lock, "a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise UserError(busy) from None
            if not is_same_file(lock, handle.fileno()):
                continue  # the holder before us removed the file: take the new one
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def is_same_file(path: Path, descriptor: int) -> bool:
    """Whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def hash_file(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def open_input(path: Path, wanted: str) -> FileIO:
    """Open a user's file for reading bytes.

    Raises
    ------
    UserError
        If it cannot be opened or is no regular file; `wanted` ends the line.
    """
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise UserError(f"{path}: is a directory; wanted: {wanted}")
        if not stat.S_ISREG(kind):
            raise UserError(f"{path}: is a pipe or a device; wanted: a file")
        return open(path, "rb", buffering=0)
    except OSError as error:
        raise UserError(f"{path}: {_reason(error)}; wanted: {wanted}") from error


def _reason(error: OSError) -> str:
    known = {
        errno.ENOENT: "does not exist",
        errno.EACCES: "no permission to read it",
        errno.ENOTDIR: "does not exist",
        errno.ENAMETOOLONG: "the name is too long for a file",
    }
    return known.get(error.errno, os.strerror(error.errno) if error.errno else str(error))


def read_text(path: Path, wanted: str) -> str:
    """The text of a user's file (UTF-8), plain or gzip.

    Raises
    ------
    UserError
        If it cannot be read, is damaged or is not text; `wanted` ends the line.
    """
    with open_input(path, wanted) as handle:
        data = handle.read()
    if is_gzip(data):
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise UserError(
                f"{path}: the gzip file is damaged ({error}); fetch it again"
            ) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text (byte {error.start}), wanted {wanted}") from error


def is_gzip(head: bytes) -> bool:
    """Whether a file that begins with these bytes is packed with gzip."""
    return head[:2] == b"\x1f\x8b"


def fsync_folder(folder: str | os.PathLike) -> None:
    """Make a rename inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
