"""Files: written atomically, locked, hashed, read as text."""

import errno
import fcntl
import glob
import gzip
import hashlib
import json
import os
import shutil
import stat
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import IO, Any

from cmgems.errors import UserError
from cmgems.utils.outputs import name_output, real_reason

SECONDS_TO_LOCK = 60  # that a writer has between making its temporary file and locking it


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file that replaces `path`, synced, when the block ends without an error.

    On an error, Ctrl-C included, `path` stays as it was and the temporary file is removed. It is in
    the same folder, since a rename is atomic within one file system only.

    Raises
    ------
    OSError
        With `path` as its file name, and what the system said, whatever the library that wrote
        made of it.
    """
    path = Path(path)
    _remove_abandoned(path)
    temporary = _temporary(path)
    try:
        with open(temporary, mode) as handle:
            _hold(handle.fileno())
            with real_reason(handle.fileno()):
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
        os.replace(temporary, path)
        fsync_folder(path.parent)
    except OSError as error:
        name_output(error, path, temporary)
        raise
    finally:
        with suppress(OSError):  # a disk that can no longer be written, which was said above
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder that becomes `path`, synced, when the block ends without an error.

    On an error, Ctrl-C included, it is removed. `path` may be an empty folder.

    Raises
    ------
    OSError
        If `path` has become a file or a folder that is not empty.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    temporary = _temporary(path)
    temporary.mkdir()
    held = os.open(temporary, os.O_RDONLY)
    try:
        _hold(held)
        yield temporary
        for file in temporary.iterdir():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
        fsync_folder(temporary)
        os.rename(temporary, path)
        fsync_folder(path.parent)
    except OSError as error:
        name_output(error, path, temporary)
        raise
    finally:
        os.close(held)
        shutil.rmtree(temporary, ignore_errors=True)


def is_temporary(path: Path) -> bool:
    """Whether a file or folder, by its name, is one that is being written, or was."""
    return path.name.startswith(".") and path.name.endswith(".part")


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _hold(descriptor: int) -> None:
    """Lock a temporary file or folder, so that it is not taken for what a killed writer left."""
    with suppress(OSError):  # a file system without locks, where nothing is removed
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _remove_abandoned(path: Path) -> None:
    """Remove what killed writers of `path` have left: it is not new, and no process holds it.

    (A number of a process says nothing where machines share a file system; a lock does.)
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        try:
            descriptor = os.open(left, os.O_RDONLY)
        except OSError:  # it has just been renamed, or belongs to somebody else
            continue
        try:
            new = time.time() - os.fstat(descriptor).st_mtime < SECONDS_TO_LOCK
            if not new:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)
        except OSError:
            continue  # its writer lives, or there are no locks to tell
        finally:
            os.close(descriptor)


@contextmanager
def file_lock(lock: Path, busy: str, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock that is a file of this name, and remove the file at the end.

    Parameters
    ----------
    busy : the message where another process holds the lock
    wait : wait until the other process releases the lock, instead of the error

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
        If it cannot be opened or is not a regular file; `wanted` ends the message.
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
    if error.errno is None:
        return str(error)
    return known.get(error.errno, os.strerror(error.errno))


def read_text(path: Path, wanted: str) -> str:
    """The text of a user's file (UTF-8), plain or gzip.

    Raises
    ------
    UserError
        If it cannot be read, is damaged or is not text; `wanted` ends the message.
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


def read_json(path: Path, wanted: str) -> dict[str, Any]:
    """The mapping in a JSON file.

    Raises
    ------
    UserError
        If there is none, or it is damaged; `wanted` ends the message.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = _reason(error) if isinstance(error, OSError) else f"is damaged ({error})"
        raise UserError(f"{path}: {reason}, wanted {wanted}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: found a {type(content).__name__}, wanted {wanted}")
    return content


def is_gzip(head: bytes) -> bool:
    """Whether a file that begins with these bytes is packed with gzip."""
    return head[:2] == b"\x1f\x8b"


def fsync_folder(folder: str | os.PathLike[str]) -> None:
    """Make a rename inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
