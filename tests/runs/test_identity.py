"""A checkpoint of another run, of another model or from elsewhere is refused in one line."""

import os
import pickle
import shutil

import pytest
import torch
from helpers.paths import EXPERIMENTS

from cmgems.cli import main
from cmgems.errors import UserError
from cmgems.hub.pretrained import load_pretrained
from cmgems.runs.identity import DIFFICULTY, GENOME, IDENTITY_KEY
from cmgems.runs.io import SafeCheckpoints, read_checkpoint
from cmgems.sweeps.branches import BranchPoint, plan_branch
from cmgems.utils.files import hash_file

RANDOM = EXPERIMENTS / "pretrain/random.yaml"


@pytest.fixture
def folder(pretrained_run, tmp_path):
    """A run of three steps that has not written its results."""
    folder = shutil.copytree(pretrained_run, tmp_path / "run")
    (folder / "results.json").unlink()
    return folder


def checkpoint(folder, name="last"):
    return folder / f"checkpoints/{name}.ckpt"


def save(path, content, **changed):
    """Save it with an identity of which these keys are changed."""
    identity = content[IDENTITY_KEY] | {key.replace("__", "."): x for key, x in changed.items()}
    SafeCheckpoints(identity).save_checkpoint(content, path)


def list_digest(path):
    path.with_name(f"{path.name}.sha256").write_text(f"{hash_file(path)}  {path.name}\n")


def refusal(capsys, *words):
    """The one line on standard error of a command that ends with exit code 2."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def resume(folder, tiny):
    return "pretrain", RANDOM, *tiny, "train.max_steps=3", f"run.dir={folder}", "run.resume=true"


def test_an_identity_has_what_a_resumed_run_keeps(pretrained_run, genome):
    identity = read_checkpoint(checkpoint(pretrained_run)).content[IDENTITY_KEY]
    assert identity["seed"] == 0
    assert identity["model.hidden_size"] == 32
    assert identity["curriculum.strategies"] == ["random"]
    assert identity[GENOME] == genome.sha256
    assert len(identity[DIFFICULTY]) == 64
    free = {"run.dir", "run.resume", "name", "train.devices", "train.log_every_n_steps"}
    assert not free & identity.keys()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"seed": 7}, "found seed 7, wanted 0"),
        ({"pmi__definition": "published"}, "found pmi.definition 'published', wanted 'exact'"),
        ({GENOME: "ab12"}, f"found {GENOME} 'ab12', wanted '"),
        ({DIFFICULTY: "ab12"}, f"found {DIFFICULTY} 'ab12', wanted '"),
    ],
    ids=["seed", "definition", "genome", "difficulty"],
)
def test_the_checkpoint_of_another_run_is_not_resumed(changed, words, folder, tiny, capsys):
    path = checkpoint(folder)
    save(path, read_checkpoint(path).content, **changed)
    line = refusal(capsys, *resume(folder, tiny))
    assert line.startswith(f"cmgems pretrain: {path}: belongs to another run: {words}")


def test_a_checkpoint_of_another_size_is_not_resumed(folder, tiny, capsys):
    path = checkpoint(folder)
    content = read_checkpoint(path).content
    weights = content["state_dict"]
    name = "model.encoder.norm.weight"
    weights[name] = torch.ones(48)
    save(path, content)
    line = refusal(capsys, *resume(folder, tiny))
    assert f"{path}: {name}: found the shape [48], wanted the shape [32] by the exp" in line
    del weights[name]
    save(path, content)
    assert f"{name}: found no such weight, wanted the shape [32]" in refusal(
        capsys, *resume(folder, tiny)
    )


def test_one_without_an_identity_is_resumed(folder, tiny):
    path = checkpoint(folder)
    SafeCheckpoints({}).save_checkpoint(read_checkpoint(path).content, path)
    assert main([str(word) for word in resume(folder, tiny)]) == 0


def test_the_checkpoint_of_another_run_is_neither_used_nor_branched_from(folder, tmp_path):
    for name in ("best", "last"):
        path = checkpoint(folder, name)
        save(path, read_checkpoint(path).content, seed=7)
    refused = r"ckpt: belongs to another run: found seed 7, wanted 0$"
    with pytest.raises(UserError, match=refused):
        load_pretrained(folder)
    with pytest.raises(UserError, match=refused):
        plan_branch(folder, BranchPoint(3, 3, ""), tmp_path / "branches")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_used(value, folder, tmp_path, capsys):
    path = checkpoint(folder, "best")
    content = read_checkpoint(path).content
    content["state_dict"]["model.encoder.norm.weight"][:2] = value
    save(path, content)
    line = refusal(capsys, "export", folder, tmp_path / "out")
    assert line == (
        f"cmgems export: {path}: encoder.norm.weight: found 2 of 32 values not finite, "
        "wanted the weights of a model that has not diverged"
    )
    assert not (tmp_path / "out").exists()


class Hostile:
    def __reduce__(self):
        return os.system, ("touch pwned",)


CONTENTS = {
    "code": (Hostile(), "refers to the code 'posix.system', which was not run"),
    "a list": ([1, 2], "is not the state of a run"),
    "weights alone": ({"x": torch.ones(2)}, "is not the state of a run"),
    "other types": (
        {"state_dict": [], "callbacks": {}, "global_step": 1},
        "is not the state of a run",
    ),
    "another format": (
        {"state_dict": {}, "callbacks": {}, "global_step": 1, "cmgems_format": "x"},
        "is not the state of a run",
    ),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_what_is_no_checkpoint_is_refused_wherever_one_is_read(
    name, folder, tiny, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    content, reason = CONTENTS[name]
    for which in ("last", "best"):
        torch.save(content, checkpoint(folder, which))
        list_digest(checkpoint(folder, which))
    for words in (
        resume(folder, tiny),
        ("export", checkpoint(folder, "best"), tmp_path / "out"),
        ("export", folder, tmp_path / "out"),
        ("branch", folder, "step=3", "decay=3", f"dir={tmp_path / 'branches'}"),
    ):
        assert f".ckpt: {reason}, wanted a cmgems checkpoint" in refusal(capsys, *words)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", pickle.dumps({"a": 1}), b"\x80\x02}q\x01"])
def test_a_file_that_torch_did_not_write_is_refused(content, folder, tmp_path, capsys):
    path = checkpoint(folder, "best")
    path.write_bytes(content)
    list_digest(path)
    line = refusal(capsys, "export", path, tmp_path / "out")
    assert line.startswith(f"cmgems export: {path}: ")
    assert line.endswith(", wanted a cmgems checkpoint")
    assert "weights_only" not in line


def test_hostile_weights_in_a_folder_of_hugging_face(pretrained_run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    assert main(["export", str(pretrained_run), str(out)]) == 0
    (out / "model.safetensors").unlink()
    torch.save({"x": Hostile()}, out / "pytorch_model.bin")
    line = refusal(capsys, "export", out, tmp_path / "again")
    assert line.endswith(
        f"{out}/pytorch_model.bin: refers to the code 'posix.system', which was not run, wanted "
        "the weights of a model"
    )
    assert not (tmp_path / "pwned").exists()
