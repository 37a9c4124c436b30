"""Loggers by config: what is made, what a resumed run continues, what a missing one says."""

import csv
import json
from importlib.util import find_spec
from typing import ClassVar

import lightning.pytorch.loggers as lightning_loggers
import pytest
from helpers.paths import EXPERIMENTS

from cmgems.cli import main
from cmgems.config.options import iter_keys
from cmgems.config.schema import Experiment
from cmgems.errors import UserError
from cmgems.runs import loggers as ours
from cmgems.runs.experiment import load
from cmgems.runs.loggers import build_loggers

RANDOM = EXPERIMENTS / "pretrain/random.yaml"


def experiment(names):
    return load(RANDOM, [f"train.loggers={names}", "seed=3"])


class FakeTracker:
    """Keeps what Lightning's loggers of trackers are given."""

    made: ClassVar[list] = []

    def __init__(self, **arguments):
        self.arguments, self.hyperparams = arguments, {}
        self.version = arguments.get("version") or arguments.get("run_id") or "new"
        self.made.append(self)

    @property
    def experiment(self):
        return self

    def log_hyperparams(self, values):
        self.hyperparams = values


@pytest.fixture
def trackers(monkeypatch):
    """Both trackers as if they were installed."""
    monkeypatch.setattr(FakeTracker, "made", [])
    monkeypatch.setattr(ours, "find_spec", lambda name: True)
    for name in ("WandbLogger", "MLFlowLogger"):
        monkeypatch.setattr(lightning_loggers, name, FakeTracker)
    for name in ("WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # so that it is taken back


def test_metrics_csv_is_always_written_and_tensorboard_is_the_default(tmp_path):
    kinds = [type(logger).__name__ for logger in build_loggers(load(RANDOM), tmp_path, -1)]
    assert kinds == ["TensorBoardLogger", "ScalarFile"]
    (alone,) = build_loggers(experiment("[]"), tmp_path, -1)
    alone.log_metrics({"loss": 2.0}, step=1)
    assert (tmp_path / "metrics.csv").read_text() == "step,name,value\n1,loss,2.0\n"


def test_csv_has_a_file_per_session(tmp_path):
    for step, loss in ((-1, 2.0), (5, 1.0)):
        table = build_loggers(experiment("csv"), tmp_path, step)[1]
        table.log_metrics({"loss": loss}, step=step + 1)
        table.save()
    rows = {
        path.parent.name: list(csv.DictReader(path.read_text().splitlines()))
        for path in (tmp_path / "csv").glob("*/metrics.csv")
    }
    assert rows == {
        "after_step0": [{"loss": "2.0", "step": "0"}],
        "after_step5": [{"loss": "1.0", "step": "6"}],
    }


def test_trackers_are_told_every_key_once_and_a_resumed_run_keeps_its_ids(tmp_path, trackers):
    build_loggers(experiment("[wandb,mlflow]"), tmp_path, -1)
    wandb, mlflow = FakeTracker.made
    assert wandb.arguments["project"] == "cmgems"
    assert wandb.arguments["name"] == mlflow.arguments["run_name"] == "random"
    assert mlflow.arguments["tracking_uri"] == f"file:{tmp_path}/mlruns"
    for tracker in (wandb, mlflow):
        assert tracker.hyperparams["seed"] == 3
        assert tracker.hyperparams["train.loggers"] == "wandb+mlflow"
        assert len(tracker.hyperparams) == len([*iter_keys(Experiment)]) - 3  # name, run.*
    ids = json.loads((tmp_path / "trackers.json").read_text())
    assert ids == {"wandb": wandb.version, "mlflow": "new"}
    build_loggers(experiment("[wandb,mlflow]"), tmp_path, 10)
    wandb, mlflow = FakeTracker.made[2:]
    assert wandb.arguments["version"] == ids["wandb"]
    assert mlflow.arguments["run_id"] == "new"
    assert wandb.hyperparams == mlflow.hyperparams == {}
    build_loggers(experiment("wandb"), tmp_path, -1)  # begun anew in the same folder
    assert FakeTracker.made[4].arguments["version"] != ids["wandb"]


def test_a_tracker_that_cannot_begin_is_one_line(tmp_path, trackers, monkeypatch):
    def fail(self):
        raise RuntimeError("No API key configured.\nUse `wandb login`")

    monkeypatch.setattr(FakeTracker, "experiment", property(fail))
    with pytest.raises(
        UserError, match=r"^train.loggers: wandb cannot begin: No API key configured\.; "
    ):
        build_loggers(experiment("wandb"), tmp_path, -1)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_said_before_anything_is_made(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ours, "find_spec", lambda package: None)
    run = tmp_path / "run"
    assert main(["pretrain", str(RANDOM), f"train.loggers={name}", f"run.dir={run}"]) == 2
    assert capsys.readouterr().err == (
        f"cmgems pretrain: train.loggers: {name} is not installed; pip install 'cmgems[tracking]'\n"
    )
    assert not run.exists()


def installed(name):
    reason = f"{name} is not installed (extra: tracking)"
    return pytest.mark.skipif(find_spec(name) is None, reason=reason)


@installed("wandb")
def test_wandb_offline_stores_the_run_in_its_folder(tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    tracker = build_loggers(experiment("wandb"), tmp_path, -1)[1]
    tracker.log_metrics({"train/loss": 2.0}, step=4)
    summary = dict(tracker.experiment.summary)
    wandb.finish()
    assert (summary["train/loss"], summary["trainer/global_step"]) == (2.0, 4)
    (stored,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert stored.stem == f"run-{json.loads((tmp_path / 'trackers.json').read_text())['wandb']}"


@installed("mlflow")
@pytest.mark.filterwarnings("ignore")  # of what MLflow means to drop
def test_mlflow_continues_a_run_in_a_folder(tmp_path, monkeypatch):
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for step, loss in ((-1, 2.0), (5, 1.0)):
        tracker = build_loggers(experiment("mlflow"), tmp_path, step)[1]
        tracker.log_metrics({"train/loss": loss}, step=step + 1)
        tracker.finalize("success")
    client = MlflowClient(f"file:{tmp_path}/mlruns")
    history = client.get_metric_history(tracker.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(0, 2.0), (6, 1.0)]
    assert client.get_run(tracker.run_id).data.params["optim.learning_rate"] == "0.003"
