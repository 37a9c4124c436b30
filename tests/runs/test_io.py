"""Checkpoints of another version are refused in one line wherever a run is read or resumed."""

import shutil

import pytest
import torch
from helpers.paths import EXPERIMENTS

from cmgems.cli import main
from cmgems.errors import UserError
from cmgems.hub.pretrained import load_pretrained
from cmgems.runs.io import CHECKPOINT_FORMAT, FORMAT_KEY, read_checkpoint
from cmgems.utils.files import hash_file

EARLIER = "it was made by an earlier version of cmgems and cannot be read; start the run anew"


@pytest.fixture(params=[None, 1], ids=["no number", "an earlier number"])
def earlier_run(request, pretrained_run, tmp_path):
    """The folder of a run as an earlier version made it: its checkpoints and a key of its config
    have other names."""
    folder = shutil.copytree(pretrained_run, tmp_path / "run")
    for name in ("last", "best"):
        save_as(folder / f"checkpoints/{name}.ckpt", request.param)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("global_batch_size:", "batch:"))
    return folder


def save_as(path, number):
    """Give a checkpoint another format number (None: none), and the digest that goes with it."""
    content = torch.load(path, weights_only=True)
    del content[FORMAT_KEY]
    torch.save(content if number is None else {**content, FORMAT_KEY: number}, path)
    path.with_name(f"{path.name}.sha256").write_text(f"{hash_file(path)}  {path.name}\n")


def refusal(capsys, *words):
    """The one line on standard error of a command that ends with exit code 2."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_checkpoint_carries_the_number_of_its_format(pretrained_run):
    path = pretrained_run / "checkpoints/last.ckpt"
    content, sha256 = read_checkpoint(path)
    assert content[FORMAT_KEY] == CHECKPOINT_FORMAT
    assert content["global_step"] == 3
    assert sha256 == hash_file(path)


@pytest.mark.parametrize("is_finished", [True, False])
def test_an_earlier_run_is_not_resumed(is_finished, earlier_run, tiny, capsys):
    if not is_finished:
        (earlier_run / "results.json").unlink()
    files = {path: path.stat().st_mtime_ns for path in earlier_run.rglob("*")}
    overrides = [*tiny, "train.max_steps=3", f"run.dir={earlier_run}", "run.resume=true"]
    line = refusal(capsys, "pretrain", EXPERIMENTS / "pretrain/random.yaml", *overrides)
    path = earlier_run / "checkpoints/last.ckpt"
    assert f"{path}: found checkpoint format 1, wanted {CHECKPOINT_FORMAT}: " in line
    assert line.endswith(EARLIER)
    assert {path: path.stat().st_mtime_ns for path in earlier_run.rglob("*")} == files


def test_the_model_of_an_earlier_run_is_neither_read_nor_exported(earlier_run, tmp_path, capsys):
    with pytest.raises(UserError, match=EARLIER):
        load_pretrained(earlier_run)
    line = refusal(capsys, "export", earlier_run, tmp_path / "out")
    assert line.endswith(EARLIER)
    assert not (tmp_path / "out").exists()


def test_a_later_version_is_named(pretrained_run, tmp_path):
    run = shutil.copytree(pretrained_run, tmp_path / "run")
    save_as(run / "checkpoints/best.ckpt", CHECKPOINT_FORMAT + 1)
    with pytest.raises(UserError, match=r"a later version of cmgems .*; update cmgems$"):
        load_pretrained(run)
