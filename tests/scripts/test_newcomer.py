"""`make newcomer` runs the commands of the README and the quickstart; here what is cheap of it."""

import gzip
import importlib.util
import re
import shlex

import pytest
import yaml
from helpers.paths import ROOT

from cmgems.cli import main
from cmgems.config.options import iter_keys
from cmgems.config.schema import Experiment
from cmgems.genome.cache import load_genome
from cmgems.masking.strategies import STRATEGIES
from cmgems.runs.experiment import load
from cmgems.sweeps.config import read_sweep
from cmgems.sweeps.plan import cross_axes, plan_runs

specification = importlib.util.spec_from_file_location("newcomer", ROOT / "scripts/newcomer.py")
newcomer = importlib.util.module_from_spec(specification)
specification.loader.exec_module(newcomer)
LINES = newcomer.read_lines(ROOT)


def test_every_line_is_run_or_says_why_not_and_no_reason_is_stale():
    assert len(LINES) > 25
    assert all(line.run or line.why for line in LINES)
    for pattern in (*newcomer.SKIPPED, *newcomer.CUT):
        assert any(re.search(pattern, line.text) for line in LINES), pattern
    assert {line.text.split()[0] for line in LINES} == {"make", "cmgems", "source", "pip"}
    assert [line.text for line in LINES if not line.run] == [
        "make test",
        "make tensorboard",
        "source .venv/bin/activate",
        "cmgems evaluate experiments/finetune/few_shot.yaml models=runs/chr20 tasks.root=data",
        "cmgems predict CLASSIFIER peaks.bed --genome hg38.fa --window 200 --out peaks.tsv",
        "cmgems explain CLASSIFIER peaks.bed --genome hg38.fa --window 200 --out explained",
        "source .venv/bin/activate",
        LINES[-2].text,  # pip install
    ]


CHEAP = ("cmgems experiments list", "cmgems experiments copy cm_gems mine")


def test_commands_that_take_no_time(tmp_path, monkeypatch, capsys):
    assert set(CHEAP) <= {line.run for line in LINES}
    monkeypatch.chdir(tmp_path)
    for text in CHEAP:
        assert main(shlex.split(text)[1:]) == 0
    assert (tmp_path / "mine/pretrain/cm_gems.yaml").exists()


@pytest.mark.parametrize(
    "line", [x for x in LINES if "cmgems pretrain" in x.run], ids=lambda x: x.text
)
def test_lines_that_are_cut_short_are_experiments(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(line.run)
    assert load(words[2], words[3:]).train.max_steps == 20


def test_the_sweep_that_is_cut_short_has_the_runs_that_the_page_names(monkeypatch):
    monkeypatch.chdir(ROOT)
    (line,) = (line for line in LINES if "cmgems sweep" in line.run)
    words = shlex.split(line.run)
    sweep = read_sweep(words[2], words[3:])
    runs = plan_runs(sweep, cross_axes(sweep))
    assert len(runs) == 8 * 3
    assert {run.experiment.train.max_steps for run in runs} == {20}


def test_stand_ins_are_what_the_lines_name(tmp_path):
    newcomer.make_stand_ins(tmp_path)
    made = {path.name for path in tmp_path.iterdir()}
    named = re.findall(r"[\w.]+\.(?:fa\.gz|fa|vcf)\b", " ".join(line.run for line in LINES))
    assert set(named) == made
    text = gzip.decompress((tmp_path / "hg38.fa.gz").read_bytes()).decode()
    assert text.startswith(">chr20\n")
    assert len(text) == 1_000_000 + len(">chr20\n\n")


def test_a_run_folder_is_made_room_for_only_where_a_line_begins_a_run(tmp_path):
    def left(text):
        for name in ("chr20", "cm_gems", "quickstart"):
            (tmp_path / "runs" / name).mkdir(parents=True, exist_ok=True)
        newcomer.make_room(text, tmp_path)
        return sorted(path.name for path in (tmp_path / "runs").iterdir())

    assert left("make pretrain") == ["chr20", "cm_gems"]
    assert left('make pretrain ARGS="run.dir=runs/chr20"') == ["cm_gems", "quickstart"]
    assert left("cmgems pretrain a/cm_gems.yaml train.devices=2") == ["chr20", "quickstart"]
    assert len(left("cmgems pretrain cm_gems run.dir=runs/chr20 run.resume=true")) == 3
    assert len(left("cmgems export runs/quickstart exported")) == 3


def test_numbers_that_the_readme_promises():
    words = {7: "seven", 8: "eight"}
    readme = re.sub(r"\s+", " ", (ROOT / "README.md").read_text())
    schedules = dict(iter_keys(Experiment))["curriculum.schedule"].metadata["choices"]
    assert f"There are {len(STRATEGIES)} strategies and {words[len(schedules)]} schedules" in readme
    sweep = (ROOT / "experiments/sweep/maskings.yaml").read_text()
    axes = yaml.safe_load(sweep)["axes"]
    assert f"{words[len(axes['masking'])]} maskings, three seeds each" in readme
    assert len(axes["seed"]) == 3
    quickstart = re.sub(r"\s+", " ", (ROOT / "docs/quickstart.md").read_text())
    assert (
        f"{load_genome('sample').bases // 10**6} million bases of human chromosome 20" in quickstart
    )
