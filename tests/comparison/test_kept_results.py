"""What docs/results and its page say is what docs/results/runs holds."""

import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from statistics import fmean

import pytest
from helpers.paths import ROOT

from cmgems.comparison.compare import compare
from cmgems.comparison.records import RunCollection, read_runs
from cmgems.comparison.tables import runs_csv
from cmgems.comparison.write import as_markdown_page
from cmgems.tasks.lookup import find_task
from cmgems.utils.intervals import mean_interval

RUNS = ROOT / "docs/results/runs"
STRATA = ("unique", "copies_1_to_2", "copies_3_to_9", "repeats")
KEPT = [
    ("evidence_hidden_bases", ""),
    ("evidence_hidden_bases", "random_wide"),
    ("evidence_hidden_bases", "cm_gems"),
    ("evidence_bases", "random_wide"),
]


@pytest.mark.parametrize(("name", "baseline"), KEPT)
def test_the_tables_are_what_the_runs_say(name, baseline, monkeypatch):
    monkeypatch.chdir(ROOT)
    comparison = compare(kept_runs(name), baseline)
    kept = Path("docs/results", f"{name}-{baseline}" if baseline else name)
    assert runs_csv(comparison) == (kept / "runs.csv").read_text()
    assert as_markdown_page(comparison) == (kept / "compare.md").read_text()


@cache  # reading takes longer than comparing
def kept_runs(name: str) -> RunCollection:
    """The runs of a part with their scores, by paths from the root of the repository."""
    runs = RUNS.relative_to(ROOT)
    return read_runs([runs / f"{name}-ends", *sorted((runs / f"{name}-probe").iterdir())])


@pytest.fixture
def page():
    """The words of docs/results.md, in one line."""
    return " ".join((ROOT / "docs/results.md").read_text().split())


@pytest.mark.parametrize(
    ("run", "strata", "digits"),
    [
        ("evidence_hidden_bases-ends/global_pmi-seed{}-step5120", STRATA, 4),
        ("evidence_hidden_bases-ends/random_wide-seed{}-step5120", STRATA, 4),
        ("evidence_bases-ends/random_wide-seed{}-step3200", ["repeats"], 3),
        ("evidence_bases-ends/easy_to_hard-seed{}-step3200", ["repeats"], 3),
        ("evidence_bases-ends/markov_easy_to_hard-seed{}-step3200", ["repeats"], 3),
    ],
)
def test_bits_by_copies_are_on_the_page(run, strata, digits, page):
    files = [RUNS / run.format(seed) / "results.json" for seed in range(5)]
    seeds = [json.loads(file.read_text())["hidden_bases"]["strata"] for file in files]
    for stratum in strata:
        bits = fmean(seed[stratum]["bits"]["model"]["mean"] for seed in seeds)
        assert f"{bits:.{digits}f}" in page


def test_few_shot_difference_is_on_the_page(page):
    """Mean over the tasks of CM-GEMS less that of GeneMask, Student's interval over the seeds."""
    differences = [
        100 * (few_shot_score(f"cm_gems-seed{seed}") - few_shot_score(f"genemask-seed{seed}"))
        for seed in range(5)
    ]
    found = mean_interval(differences)
    assert f"by {found.mean:.2f} points on average over eight tasks" in page
    assert f"({found.low:.2f} to {found.high:+.2f};" in page


def few_shot_score(model: str) -> float:
    """The mean over tasks and draws of the official metric."""
    folders = (RUNS / "evidence_hidden_bases-probe").glob("*/results.json")
    rows = [row for file in folders for row in json.loads(file.read_text())["scores"]]
    scores = defaultdict(list)
    for row in rows:
        if f"/{model}-step" in row["model"]:
            scores[row["task"]].append(row["scores"][find_task(row["task"]).metric])
    assert len(scores) == 8
    return fmean(fmean(draws) for draws in scores.values())
