"""A write that the system refuses ends a command in one line, and nothing half-written stays."""

import errno
import os
from pathlib import Path

import pytest
from helpers.paths import EXPERIMENTS

from cmgems.cli import main
from cmgems.utils import outputs

RANDOM = str(EXPERIMENTS / "pretrain/random.yaml")


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    path = tmp_path_factory.mktemp("sequences") / "s.fa"
    path.write_text(">a\nACGTTGCAACGTACGGTC\n>b\nTTGACCAGTTGACA\n")
    return path


@pytest.fixture
def commands(tmp_path, tiny, pretrained_run, sequences):
    """(arguments, output) of each command that writes where the user says."""
    run, out = str(pretrained_run), tmp_path / "out"
    folders = {
        "export": ["export", run, str(out)],
        "compare": ["compare", run, f"out={out}"],
        "genome": ["genome", str(sequences), "--out", str(out)],
        "pretrain": ["pretrain", RANDOM, *tiny, "train.max_steps=3", f"run.dir={out}"],
        "sweep": ["sweep", str(EXPERIMENTS / "sweep/maskings.yaml"), f"dir={out}"],
        "branch": ["branch", run, "step=3", f"dir={out}"],
        "evaluate": ["evaluate", str(EXPERIMENTS / "finetune/quickstart.yaml"), f"run.dir={out}"],
    }
    files = {
        "embed": ["embed", run, str(sequences), "--out", f"{out}.npz"],
        "embed tokens": ["embed", run, str(sequences), "--pool=tokens", "--out", f"{out}.npz"],
        "score": ["score", run, "--sequences", str(sequences), "--out", f"{out}.tsv"],
        "inspect": ["inspect", RANDOM, *tiny, "train.max_steps=3", f"out={out}.html"],
        "pmi": ["pmi", "sample", "--k=3", "--out", f"{out}.tsv"],
        "pmi counts": ["pmi", "sample", "--k=3", "--counts-out", f"{out}.counts"],
    }
    return folders | files


def one_line(capsys, command, *, code=2):
    capsys.readouterr()
    assert main(command) == code
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    lines = [line for line in lines if not line.startswith(("pretrain:", "reading"))]
    (line,) = (line for line in lines if line.strip())
    return line


WRITERS = ["embed", "embed tokens", "score", "inspect", "pmi", "pmi counts", "export", "compare"]


# The page of inspect takes half a minute; it is written as all others are.
@pytest.mark.parametrize("name", [name for name in WRITERS if name != "inspect"])
def test_a_full_disk(name, commands, tmp_path, monkeypatch, capsys):
    fill_disk(monkeypatch, tmp_path)
    line = one_line(capsys, commands[name])
    assert str(tmp_path / "out") in line
    assert "No space left on device" in line
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def fill_disk(monkeypatch, folder, name=""):
    """Nothing with this name in `folder` can be written to the disk any more."""
    fsync = os.fsync

    def full(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_relative_to(folder) and name in path.name and path.is_file():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)


def test_a_full_disk_amid_a_run(commands, tmp_path, monkeypatch, capsys):
    fill_disk(monkeypatch, tmp_path, "last.ckpt")
    line = one_line(capsys, commands["pretrain"], code=1)
    assert f"{tmp_path}/out/checkpoints/last.ckpt" in line
    assert "No space left on device; run.resume=true goes on" in line
    assert os.listdir(tmp_path / "out/checkpoints") == []


def test_a_genome_store_is_not_half_written(sequences, tmp_path, monkeypatch, capsys):
    fill_disk(monkeypatch, tmp_path)
    long = tmp_path / "long.fa"
    long.write_text(">a\n" + "ACGTTGCA" * 20 + "\n")
    line = one_line(capsys, ["genome", str(long), "--out", str(tmp_path / "out")])
    assert f"{tmp_path}/out: No space left on device" in line
    assert os.listdir(tmp_path) == ["long.fa"]


@pytest.mark.parametrize("name", [*WRITERS, "pretrain", "sweep", "branch", "evaluate"])
def test_outputs_are_tried_before_the_work(name, commands, tmp_path, monkeypatch, capsys):
    def refuse(dir):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(outputs, "TemporaryFile", refuse)
    line = one_line(capsys, commands[name])
    assert str(tmp_path / "out") in line
    assert "cannot be written: Permission denied" in line
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", [*WRITERS, "pretrain", "sweep", "evaluate", "genome"])
def test_something_else_where_the_output_is_wanted(name, commands, tmp_path, capsys):
    wants_folder = commands[name][-1].endswith("out")
    out = Path(commands[name][-1].partition("=")[2] or commands[name][-1])
    if wants_folder:
        out.write_text("notes")
    else:
        out.mkdir()
    line = one_line(capsys, commands[name])
    assert str(out) in line
    assert ("a file" if wants_folder else "a folder") in line
    assert out.is_file() == wants_folder
