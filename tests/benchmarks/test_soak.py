"""The quick form of `make soak`: trials that take no run, and its bookkeeping."""

import json
import sys

import numpy as np
import pytest
import torch
from helpers.paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))
import soak
from soak_inputs import KINDS, Kind, make_input, mutated
from soak_outcomes import HELD, LOST, SILENT, TRACEBACK, Trial
from soak_processes import differences, fingerprint

from cmgems.errors import UserError


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_inputs_are_read_or_refused_in_one_line(kind, tmp_path):
    ending, read, count = KINDS[kind]
    whole = make_input(kind, np.random.default_rng(0), tmp_path)
    (tmp_path / f"whole{ending}").write_bytes(whole)
    assert read(tmp_path / f"whole{ending}", whole) is False
    number = list(KINDS).index(kind)
    trial = mutated(number, np.random.default_rng(number), tmp_path / "trial", 20 / count)
    assert (trial.outcome, trial.count) == (HELD, 20), trial.note


@pytest.mark.parametrize(
    ("raised", "outcome", "note"),
    [
        (KeyError("chrom"), TRACEBACK, "variants: KeyError: 'chrom' (faults/0-input.vcf)"),
        (UserError("a\nb"), LOST, "variants: 'a\\nb' (faults/0-input.vcf)"),
        (None, SILENT, "variants: damage was not seen (faults/0-input.vcf)"),
    ],
)
def test_a_fault_is_found_and_its_input_kept(raised, outcome, note, tmp_path, monkeypatch):
    def read(path, original):
        if raised is not None:
            raise raised
        return True

    monkeypatch.setitem(KINDS, "variants", Kind(".vcf", read, 40))
    number = list(KINDS).index("variants")
    trial = mutated(number, np.random.default_rng(0), tmp_path / "trial")
    assert (trial.outcome, trial.note) == (outcome, note)
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
    """Until a part has what is wanted of it, or says that there is no more."""
    made = iter(
        [Trial(HELD, "", 200), Trial(TRACEBACK, "x", 200), Trial(SILENT, ""), Trial(LOST, ""), None]
    )
    parts = {
        "inputs": soak.Part("inputs", 300, lambda *_: None),
        "kills": soak.Part("kills", soak.ALL, lambda *_: None),
    }
    monkeypatch.setattr(soak, "PARTS", parts)
    monkeypatch.setattr(soak, "try_once", lambda *_: next(made))
    (tmp_path / "trial").mkdir()
    soak.soak(60, tmp_path, ["inputs"])
    with open(tmp_path / "trials.jsonl", "a") as journal:
        journal.write('{"part": "kil')  # cut off by a kill
    monkeypatch.setattr(soak, "GUESS", 10)
    clock = iter(range(1000))
    monkeypatch.setattr(soak.time, "monotonic", lambda: next(clock))
    cut = soak.soak(3, tmp_path, ["inputs", "kills"])
    assert [(e["part"], e["number"]) for e in cut.entries[2:]] == [("kills", 0)]
    rows = soak.table(cut).splitlines()
    assert "Cut short: kills: 1 of all." in rows
    whole = soak.soak(60, tmp_path, ["inputs", "kills"])
    lines = (tmp_path / "trials.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == [0, 1, 0, 1, 2]
    rows = soak.table(whole).splitlines()
    assert "| inputs | 400 | 399 | 0 | 0 | 1 |" in rows
    assert "| all | 402 | 399 | 1 | 1 | 1 |" in rows
    assert not any("Cut short" in row for row in rows)


def test_the_table_replaces_the_one_before(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"above\n{soak.BEGIN}\n{soak.END}\nbelow\n")
    for text in ("first", "second"):
        soak.write_table(text, page)
    assert page.read_text() == f"above\n{soak.BEGIN}\nsecond\n{soak.END}\nbelow\n"
    assert soak.DOCS.read_text().count(soak.BEGIN) == 1
    assert soak.DOCS.read_text().count(soak.END) == 1
