"""Writing that fails: the file and the system's reason, whatever the library says."""

import os
import resource
import threading

import numpy as np
import pytest
import torch

from cmgems.errors import RunFailed, UserError
from cmgems.utils.files import atomic_folder, atomic_write
from cmgems.utils.outputs import (
    amid_run,
    check_output_file,
    check_output_folder,
    system_message,
)

MANY = 300_000


@pytest.fixture
def small_files():
    """Files of at most 100,000 bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


WRITERS = {
    "torch": lambda handle: torch.save({"a": torch.zeros(MANY)}, handle),
    "numpy": lambda handle: np.save(handle, np.zeros(MANY)),
    "npz": lambda handle: np.savez(handle, a=np.zeros(MANY)),
    "bytes": lambda handle: handle.write(bytes(MANY)),
    "lines": lambda handle: handle.writelines([b"ACGT\n"] * MANY),
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_reason_is_the_systems_and_the_old_file_stays(name, small_files, tmp_path):
    path = tmp_path / "data"
    path.write_text("old")
    with pytest.raises(OSError) as error, atomic_write(path, "wb") as handle:
        WRITERS[name](handle)
    assert system_message(error.value) == f"{path}: File too large"
    assert os.listdir(tmp_path) == ["data"]
    assert path.read_text() == "old"


def test_errors_of_others_stay(tmp_path):
    with pytest.raises(RuntimeError, match="no kernel"), atomic_write(tmp_path / "a"):
        raise RuntimeError("no kernel")
    with pytest.raises(FileNotFoundError) as error, atomic_write(tmp_path / "a"):
        (tmp_path / "input").read_text()
    assert error.value.filename == str(tmp_path / "input")
    assert os.listdir(tmp_path) == []


def test_a_folder_is_not_half_written(small_files, tmp_path):
    def write():
        with atomic_folder(tmp_path / "model") as folder:
            (folder / "small").write_text("whole")
            (folder / "large").write_bytes(bytes(MANY))

    with pytest.raises(OSError, match="File too large") as error:
        write()
    assert str(tmp_path / "model") in system_message(error.value)
    assert os.listdir(tmp_path) == []


def test_outputs_are_tried(tmp_path):
    (tmp_path / "file").touch()
    check_output_file(tmp_path / "file", "--out")
    check_output_file(tmp_path / "new", "--out")
    check_output_folder(tmp_path / "a/b", "dir")
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(UserError, match=r"--out: .* is a folder, wanted a file"):
        check_output_file(tmp_path, "--out")
    with pytest.raises(UserError, match=r"--out: .*/a is not a folder, wanted one that exists"):
        check_output_file(tmp_path / "a/b", "--out")
    with pytest.raises(UserError, match=r"dir: .*/file is a file, wanted a folder"):
        check_output_folder(tmp_path / "file/b", "dir")


def test_amid_a_run_an_error_is_the_runs(tmp_path, capsys):
    with pytest.raises(RunFailed, match=rf"^{tmp_path}: No space left on device; resume$"):
        with amid_run(tmp_path, "resume"):
            raise OSError(28, "No space left on device")
    with pytest.raises(BrokenPipeError), amid_run(tmp_path, "resume"):
        raise BrokenPipeError


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_threads_print_what_is_no_error_of_the_system(tmp_path, capsys):
    def fail(error):
        raise error

    with amid_run(tmp_path, "resume"):
        for error in (OSError(28, "full"), ValueError("a fault of ours")):
            thread = threading.Thread(target=fail, args=(error,))
            thread.start()
            thread.join()
    text = capsys.readouterr().err
    assert "ValueError: a fault of ours" in text
    assert "full" not in text
