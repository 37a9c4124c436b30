"""Outputs: tried before the work for them begins, and what the system says where it fails."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from cmgems.errors import RunFailed, UserError


def name_output(error: OSError, path: Path, temporary: Path) -> None:
    """Let an error of writing name the file that the user knows, not the one in its stead."""
    if error.filename is None:
        error.filename = str(path)
    elif isinstance(error.filename, str) and Path(error.filename).is_relative_to(temporary):
        error.filename = str(path / Path(error.filename).relative_to(temporary))


@contextmanager
def real_reason(descriptor: int) -> Iterator[None]:
    """Raise what the system says where a library that writes says only that it could not.

    On a full disk torch.save raises a RuntimeError about "unexpected pos", and NumPy an OSError
    without a number ("1000 requested and 24 written"). The file is about to be removed, so that
    more can be written to it to ask the system again.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if getattr(error, "errno", None) is None:
            try:
                for _ in range(2):  # the first may fill the last bytes of a disk
                    os.write(descriptor, bytes(1 << 20))
                os.fsync(descriptor)
            except OSError as reason:
                raise reason from error
        raise


def system_message(error: OSError) -> str:
    """One line with the file and what the system says of it."""
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{error.filename}: {reason}"


@contextmanager
def amid_run(folder: Path, remedy: str) -> Iterator[None]:
    """Turn an error of the system into the failure of a run that is under way.

    Parameters
    ----------
    folder : of the run, which a message names where the error names no file
    remedy : ends the message

    Raises
    ------
    RunFailed
        With the file, the system's reason and the remedy.
    """
    hook = threading.excepthook
    threading.excepthook = _leave_system_errors
    try:
        yield
    except BrokenPipeError:  # whoever read our output has seen enough
        raise
    except OSError as error:
        place = "" if error.filename else f"{folder}: "
        raise RunFailed(f"{place}{system_message(error)}; {remedy}") from error
    finally:
        threading.excepthook = hook


def _leave_system_errors(problem: threading.ExceptHookArgs) -> None:
    """Print no traceback of a thread that cannot write: TensorBoard's raises the same error again
    in the thread that gave it something to write."""
    if not issubclass(problem.exc_type, OSError):
        threading.__excepthook__(problem)


def check_output_file(path: Path, key: str) -> None:
    """Try whether a file can be written at `path`, before the work for it begins.

    Parameters
    ----------
    path : Path
    key : the option that names it, which a message begins with

    Raises
    ------
    UserError
        If it cannot: there is a folder, or the folder around it does not exist or cannot be
        written to.
    """
    if path.is_dir():
        raise UserError(f"{key}: {path} is a folder, wanted a file")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UserError(f"{key}: {path.parent} is not a folder, wanted one that exists")
    _try_to_write(folder, path, key)


def check_output_folder(path: Path, key: str) -> None:
    """The same for a folder that is made with those around it, unless it is there.

    Raises
    ------
    UserError
        If it cannot be made or written to.
    """
    folder = path.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise UserError(f"{key}: {folder} is a file, wanted a folder")
    _try_to_write(folder, path, key)


def _try_to_write(folder: Path, path: Path, key: str) -> None:
    try:
        with TemporaryFile(dir=folder) as handle:
            handle.write(bytes(4096))
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{key}: {path} cannot be written: {reason}") from error
