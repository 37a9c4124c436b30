"""A stand-in for the runs of a sweep, and a sweep file over the base experiment."""

import json
import sys

import pytest
from helpers.paths import EXPERIMENTS

from cmgems.sweeps import cluster, local, ray_cluster
from cmgems.sweeps.config import read_sweep

BASE = EXPERIMENTS / "pretrain/base.yaml"


# Instead of `cmgems pretrain` where only the sweep is tested: two steps; the results are a function
# of the experiment.
STAND_IN = """
import json, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
import yaml
config = yaml.safe_load((folder / "config.yaml").read_text())
behaviour = folder.parent / "behaviour.json"
behaviour = json.loads(behaviour.read_text()) if behaviour.exists() else {}
with open(folder.parent / "order.txt", "a") as handle:
    handle.write(folder.name + "\\n")
if why := behaviour.get("fail", {}).get(folder.name):
    print("some output\\ncmgems pretrain: " + why, file=sys.stderr)
    sys.exit(2)
with open(folder / "metrics.csv", "a") as handle:
    handle.write("step,name,value\\n1,train/loss,8.0\\n2,train/loss,7.0\\n")
if folder.name in behaviour.get("hang", []):
    time.sleep(600)
learning_rate, seed = config["optim"]["learning_rate"], config["seed"]
metrics = {"perplexity": 100.0 + seed, "hidden_base_bits": (learning_rate - 0.002) ** 2}
final = {"random": metrics, "random_wide": metrics}
(folder / "results.json").write_text(json.dumps({"final": final, "training_seconds": 1.0}))
"""


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Every run is the stand-in; returns a function that sets which runs fail or hang."""

    def command(run):
        return [sys.executable, "-c", STAND_IN, str(run.folder)]

    for executor in (local, cluster, ray_cluster):
        monkeypatch.setattr(executor, "pretrain_command", command)
    monkeypatch.setattr("cmgems.sweeps.scheduler.POLL_SECONDS", 0.02)
    monkeypatch.setattr("cmgems.sweeps.run.visible_gpus", list)

    def behave(**behaviour):
        (tmp_path / "sweep").mkdir(exist_ok=True)
        (tmp_path / "sweep/behaviour.json").write_text(json.dumps(behaviour))

    return behave


@pytest.fixture
def sweep_file(tmp_path):
    """Writes a sweep file over the base experiment and reads it with overrides."""

    def write(text, *overrides):
        path = tmp_path / "sweep.yaml"
        path.write_text(f"base: {BASE}\n{text}")
        return read_sweep(path, [f"dir={tmp_path / 'sweep'}", *overrides])

    return write
