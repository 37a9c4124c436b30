"""The tables of docs/results are what `cmgems compare` makes of docs/results/runs."""

from pathlib import Path

import pytest
from helpers.paths import ROOT

from cmgems.comparison.compare import compare
from cmgems.comparison.records import read_runs
from cmgems.comparison.tables import runs_csv
from cmgems.comparison.write import as_markdown_page

KEPT = [
    ("evidence_hidden_bases", ""),
    ("evidence_hidden_bases", "random_wide"),
    ("evidence_hidden_bases", "cm_gems"),
    ("evidence_bases", "random_wide"),
]


@pytest.mark.parametrize(("name", "baseline"), KEPT)
def test_the_tables_are_what_the_runs_say(name, baseline, monkeypatch):
    monkeypatch.chdir(ROOT)
    runs = Path("docs/results/runs")
    scores = sorted((runs / f"{name}-probe").iterdir())
    comparison = compare(read_runs([runs / f"{name}-ends", *scores]), baseline)
    kept = Path("docs/results", f"{name}-{baseline}" if baseline else name)
    assert runs_csv(comparison) == (kept / "runs.csv").read_text()
    assert as_markdown_page(comparison) == (kept / "compare.md").read_text()
