"""The quick form of `make soak`: trials that take no run, and its bookkeeping."""

import json
import sys

import numpy as np
import pytest
import torch
from helpers.paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))
import soak
import soak_trials
from soak_processes import differences, fingerprint
from soak_trials import HELD, LOST, SILENT, TRACEBACK, Trial, mutated


@pytest.mark.parametrize("number", range(5))
def test_damaged_inputs_are_read_or_refused_in_one_line(number, tmp_path):
    (tmp_path / "trial").mkdir()
    trial = mutated(number, np.random.default_rng(number), tmp_path / "trial", count=40)
    assert (trial.outcome, trial.count) == (HELD, 40), trial.note


def test_a_fault_is_found_and_its_input_kept(tmp_path, monkeypatch):
    def read(path):
        raise KeyError("chrom")

    monkeypatch.setattr(soak_trials, "read_variants", read)
    (tmp_path / "trial").mkdir()
    trial = mutated(2, np.random.default_rng(0), tmp_path / "trial", count=40)
    assert trial.outcome == TRACEBACK
    assert trial.note == "variants: KeyError: 'chrom' (faults/0-input.vcf)"
    assert (tmp_path / "faults/0-input.vcf").exists()


def write_run(folder, weight=1.0, bits=1.9, seconds=7, best=3):
    (folder / "checkpoints").mkdir(parents=True)
    for name, step in (("last", 6), ("best", best)):
        state = {"global_step": step, "state_dict": {"w": torch.tensor([weight, 0.0])}}
        torch.save(state, folder / f"checkpoints/{name}.ckpt")
    scalars = f"step,name,value\n6,train/loss,{bits}\n6,speed/seconds,{seconds}\n"
    (folder / "metrics.csv").write_text(scalars)
    (folder / "results.json").write_text(json.dumps({"final": {"bits": bits}, "best_step": 3}))
    return fingerprint(folder)


def test_a_fingerprint_is_of_all_that_was_computed(tmp_path):
    whole = write_run(tmp_path / "whole")
    assert differences(write_run(tmp_path / "slower", seconds=9), whole) == ""
    assert differences(write_run(tmp_path / "w", weight=1.0000001), whole) == "weights"
    assert differences(write_run(tmp_path / "b", bits=1.8), whole) == "scalars, final"
    assert differences(write_run(tmp_path / "c", best=6), whole) == "step of best.ckpt"


def test_trials_go_on_and_are_counted(tmp_path, monkeypatch):
    trials = [Trial(HELD, "", 200), Trial(TRACEBACK, "x", 200), Trial(SILENT, ""), Trial(LOST, "")]
    made = iter([*trials, None, Trial(HELD, "")])
    monkeypatch.setattr(soak, "try_once", lambda *_: next(made))
    (tmp_path / "trial").mkdir()
    clock = iter(range(1000))
    monkeypatch.setattr(soak.time, "monotonic", lambda: next(clock))
    soak.soak(4, tmp_path, ["mutated"])
    with open(tmp_path / "trials.jsonl", "a") as journal:
        journal.write('{"part": "muta')  # cut off by a kill
    journal = soak.soak(6, tmp_path, ["mutated"])
    assert [entry["number"] for entry in journal.entries] == [0, 1, 2, 3, 4, 0]
    lines = (tmp_path / "trials.jsonl").read_text().splitlines()
    assert [json.loads(line)["seconds"] for line in lines] == [1] * 6
    rows = soak.table(journal).splitlines()
    assert "| all | 403 | 400 | 1 | 1 | 1 |" in rows


def test_the_table_replaces_the_one_before(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"above\n{soak.BEGIN}\n{soak.END}\nbelow\n")
    for text in ("first", "second"):
        soak.write_table(text, page)
    assert page.read_text() == f"above\n{soak.BEGIN}\nsecond\n{soak.END}\nbelow\n"
    assert soak.DOCS.read_text().count(soak.BEGIN) == 1
    assert soak.DOCS.read_text().count(soak.END) == 1
