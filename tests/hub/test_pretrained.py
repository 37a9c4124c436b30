"""A model read back from its run folder."""

import shutil

import pytest
import torch

from cmgems.errors import UserError
from cmgems.hub.pretrained import load_pretrained
from cmgems.tokenization import OverlappingKmers


def test_the_weights_are_those_of_the_best_checkpoint(pretrained_run):
    loaded = load_pretrained(pretrained_run)
    path = pretrained_run / "checkpoints/best.ckpt"
    saved = torch.load(path, weights_only=True)["state_dict"]
    ours = loaded.model.state_dict()
    assert {f"model.{name}" for name in ours} == {n for n in saved if n.startswith("model.")}
    assert all(torch.equal(saved[f"model.{name}"], value) for name, value in ours.items())
    assert (loaded.tokenization, loaded.step) == (OverlappingKmers(6), 3)
    assert loaded.source == str(path)
    assert not loaded.model.training


def test_a_checkpoint_can_be_named_itself(pretrained_run):
    last = load_pretrained(pretrained_run / "checkpoints/last.ckpt")
    assert last.source.endswith("last.ckpt")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "nowhere: no checkpoint there"),
        ("https://example.org/model.ckpt", "found an address"),
    ],
)
def test_what_is_not_there_is_named(source, message):
    with pytest.raises(UserError, match=message):
        load_pretrained(source)


def test_a_damaged_checkpoint_is_refused(pretrained_run, tmp_path):
    run = shutil.copytree(pretrained_run, tmp_path / "run")
    path = run / "checkpoints/best.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        load_pretrained(run)


def test_a_checkpoint_without_its_run_is_refused(pretrained_run, tmp_path):
    shutil.copy(pretrained_run / "checkpoints/best.ckpt", tmp_path)
    with pytest.raises(UserError, match=r"config\.yaml"):
        load_pretrained(tmp_path / "best.ckpt")
