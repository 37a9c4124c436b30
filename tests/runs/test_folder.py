"""A run folder after its process was killed at a bad moment, or its small files were damaged."""

import shutil
import signal

import pytest
from helpers.paths import EXPERIMENTS
from helpers.runs import assert_same_run, interrupt_when_window_is_drawn

from cmgems.callbacks import checkpoints
from cmgems.cli import main
from cmgems.errors import UserError
from cmgems.hub.pretrained import load_pretrained
from cmgems.pretraining import pretrain
from cmgems.runs.experiment import load
from cmgems.runs.io import read_checkpoint

RANDOM = EXPERIMENTS / "pretrain/random.yaml"
# A validation after each eighth step: two moments at which best.ckpt may be made.
SHORT = ["train.max_steps=16", "validation.every_n_steps=8", "optim.learning_rate=5e-3"]


class Killed(BaseException):
    """Stands for SIGKILL: nothing but `finally` blocks runs after it."""


@pytest.mark.parametrize("number", [1, 2])
def test_killed_between_the_last_and_the_best_checkpoint(number, tiny, tmp_path, monkeypatch):
    copy, calls = checkpoints.copy_checkpoint, []

    def copy_or_die(source, path):
        calls.append(path)
        if len(calls) == number:
            raise Killed
        copy(source, path)

    overrides = [*tiny, *SHORT, f"run.dir={tmp_path / 'run'}"]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "copy_checkpoint", copy_or_die)
        with pytest.raises(Killed):
            pretrain(load(RANDOM, overrides))
    best = tmp_path / "run/checkpoints/best.ckpt"
    if best.exists():
        with pytest.raises(UserError, match=r"best.ckpt: found step 8, wanted step 16"):
            load_pretrained(tmp_path / "run")
    else:
        with pytest.raises(UserError, match="no checkpoint there"):
            load_pretrained(tmp_path / "run")
    results = pretrain(load(RANDOM, [*overrides, "run.resume=true"]))
    assert read_checkpoint(best).content["global_step"] == results["best_step"]
    assert load_pretrained(tmp_path / "run").step == results["best_step"]


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_without_a_config_begins(resume, tiny, tmp_path):
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / ".lock").touch()
    (folder / ".config.yaml.77.part").write_text("seed")
    overrides = [*tiny, *SHORT, f"run.dir={folder}", f"run.resume={resume}"]
    assert pretrain(load(RANDOM, overrides))["best_step"] in (8, 16)


def test_the_same_command_begins_a_run_goes_on_and_ends(
    tiny, pretrained_run, tmp_path, monkeypatch
):
    """`run.resume=auto`, as a job that its cluster starts again gives it each time."""
    started_again = tmp_path / "run"
    overrides = [*tiny, "train.max_steps=3", f"run.dir={started_again}", "run.resume=auto"]
    command = ["pretrain", str(RANDOM), *overrides]
    with monkeypatch.context() as patch:
        interrupt_when_window_is_drawn(patch, number=5, signal_number=signal.SIGTERM)
        assert main(command) == 128 + signal.SIGTERM
    assert not (started_again / "results.json").exists()
    assert main(command) == 0
    assert_same_run(pretrained_run, started_again)
    finished = (started_again / "results.json").read_bytes()
    assert main(command) == 0
    assert (started_again / "results.json").read_bytes() == finished


def test_auto_is_no_licence_to_write_among_other_files(tiny, tmp_path):
    (tmp_path / "thesis.txt").write_text("years")
    overrides = [*tiny, "train.max_steps=3", f"run.dir={tmp_path}", "run.resume=auto"]
    with pytest.raises(UserError, match=r"run.resume: .* holds no run"):
        pretrain(load(RANDOM, overrides))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


DAMAGES = {"empty": b"", "cut off": b'{"a": 1, "b', "noise": b"\xff\x00\x9c,,\n"}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name",
    ["config.yaml", "results.json", "checkpoints/last.ckpt.sha256", "checkpoints/last.ckpt"],
)
def test_damaged_files_are_refused_in_one_line(
    name, damage, tiny, pretrained_run, tmp_path, capsys
):
    folder = shutil.copytree(pretrained_run, tmp_path / "run")
    if name != "results.json":
        (folder / "results.json").unlink()
    (folder / name).write_bytes(DAMAGES[damage])
    capsys.readouterr()
    overrides = [*tiny, "train.max_steps=3", f"run.dir={folder}", "run.resume=true"]
    assert main(["pretrain", str(RANDOM), *overrides]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    # An empty config.yaml is one of defaults alone, which the run in the folder is not.
    expected = folder if (name, damage) == ("config.yaml", "empty") else folder / name
    assert str(expected).removesuffix(".sha256") in line


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_scalars_are_dropped_line_by_line(damage, tiny, tmp_path):
    overrides = [*tiny, *SHORT, f"run.dir={tmp_path / 'run'}"]
    pretrain(load(RANDOM, overrides))
    scalars = tmp_path / "run/metrics.csv"
    whole = scalars.read_text()
    (tmp_path / "run/results.json").unlink()
    scalars.write_bytes(DAMAGES[damage] if damage != "cut off" else whole.encode()[:-5])
    resumed = load(RANDOM, [*overrides, "run.resume=true"])
    if damage == "noise":
        with pytest.raises(UserError, match=r"metrics.csv: cannot be read"):
            pretrain(resumed)
        return
    pretrain(resumed)
    lines = scalars.read_text().splitlines()
    assert lines[0] == "step,name,value"
    assert all(line.count(",") == 2 for line in lines)
    if damage == "cut off":  # what the first process wrote at its last step is not there twice
        assert scalars_of(lines) == scalars_of(whole.splitlines())


def scalars_of(lines):
    return sorted(line for line in lines if ",speed/" not in line)
