"""`model.init: PATH`: a run begins where a pretrained model ended."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers.paths import EXPERIMENTS
from helpers.runs import assert_same_run, interrupt_when_window_is_drawn, scalars, weights

from cmgems.cli import main
from cmgems.errors import RunStopped, UserError
from cmgems.hub import initial_weights
from cmgems.hub.initial_weights import take_initial_weights
from cmgems.hub.pretrained import Pretrained
from cmgems.models.build import build_model
from cmgems.pretraining import begin_with_pretrained, pretrain
from cmgems.runs.experiment import load
from cmgems.runs.folder import RunFolder
from cmgems.tokenization import build_tokenization
from cmgems.utils.files import hash_file

RANDOM = EXPERIMENTS / "pretrain/random.yaml"


def experiment(tiny, init, *more):
    few = ["validation.final_windows=8", "train.max_steps=2", "optim.warmup_steps=1"]
    return load(RANDOM, [*tiny, *few, f"model.init={init}", *more])


def test_begins_as_the_source_ended_and_resumes_without_it(
    tiny, pretrained_run, tmp_path, monkeypatch
):
    source, whole, run = tmp_path / "source", tmp_path / "whole", tmp_path / "run"
    shutil.copytree(pretrained_run, source)
    results = pretrain(experiment(tiny, source, f"run.dir={whole}"))
    ended, begun = scalars(source), scalars(whole)
    names = {name for step, name in ended if step == 3 and name.startswith("validation")}
    assert {name: begun[0, name] for name in names} == {name: ended[3, name] for name in names}
    assert len(names) > 5
    best = source / "checkpoints/best.ckpt"
    wanted = {"source": str(best), "sha256": hash_file(best), "step": 3, "sep_token": True}
    assert results["initial_weights"] == wanted

    interrupt_when_window_is_drawn(monkeypatch, number=4 * 1 + 1)
    with pytest.raises(RunStopped):
        pretrain(experiment(tiny, source, f"run.dir={run}"))
    shutil.rmtree(source)
    resumed = pretrain(experiment(tiny, source, f"run.dir={run}", "run.resume=true"))
    assert_same_run(whole, run)
    assert resumed["initial_weights"] == wanted


def test_weights_of_a_hugging_face_folder(tiny, pretrained_run, tmp_path):
    assert main(["export", str(pretrained_run), str(tmp_path / "hf")]) == 0
    begun = experiment(tiny, tmp_path / "hf")
    model = build_model(begun)
    take_initial_weights(begun, model, build_tokenization(begun.data))
    saved = weights(pretrained_run, "best")
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, saved[f"model.{name}"], rtol=0, atol=1e-6)


def test_that_a_model_knows_no_sep_is_said(tiny, tmp_path, monkeypatch, capsys):
    begun = experiment(tiny, "downloads/nt")
    source, model = build_model(begun), build_model(begun)
    source.encoder.config = replace(source.encoder.config, sep_token=False)
    torch.nn.init.ones_(source.bias)
    tokens = build_tokenization(begun.data)
    found = Pretrained(source, tokens, "downloads/nt/model.safetensors", "0" * 64, None)
    monkeypatch.setattr(initial_weights, "load_pretrained", lambda path: found)
    module = SimpleNamespace(model=model, masker=SimpleNamespace(tokenization=tokens))
    origin = begin_with_pretrained(begun, RunFolder(tmp_path), module)
    assert "model.init: downloads/nt was trained without [SEP]" in capsys.readouterr().err
    assert origin["sep_token"] is False
    assert (model.bias == 1).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.k=5"], "found overlapping 6-mers in .*run, wanted overlapping 5-mers"),
        (
            ["model.hidden_size=64", "model.norm=pre"],
            "another encoder than the experiment, wanted model.norm=post model.hidden_size=32$",
        ),
    ],
)
def test_another_model_is_refused(tiny, pretrained_run, tmp_path, settings, message):
    other = experiment(tiny, pretrained_run, *settings)
    with pytest.raises(UserError, match=f"^model.init: .*{message}") as refused:
        take_initial_weights(other, build_model(other), build_tokenization(other.data))
    assert "\n" not in str(refused.value)


def test_no_model_is_refused_before_the_folder_is_made(tiny, tmp_path, capsys):
    settings = [*tiny, "model.init=brt", f"run.dir={tmp_path / 'run'}"]
    assert main(["pretrain", str(RANDOM), *settings]) == 2
    error = capsys.readouterr().err
    assert "model.init: brt: no checkpoint there, wanted a run folder" in error
    assert error.rstrip().endswith("or one of bert, fast_start")
    assert not (tmp_path / "run").exists()
