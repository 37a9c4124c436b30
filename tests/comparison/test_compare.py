"""Comparisons over run folders whose results are made up, so that what they show is known."""

import csv
import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from helpers.compared_runs import write_run
from helpers.paths import EXPERIMENTS

from cmgems.cli import main
from cmgems.comparison.compare import MetricResults, compare
from cmgems.comparison.curves import charts
from cmgems.comparison.metrics import HIDDEN_BITS
from cmgems.comparison.page import page
from cmgems.comparison.plot import plot, references
from cmgems.comparison.records import read_runs
from cmgems.comparison.tables import runs_csv, tables
from cmgems.comparison.verdict import verdict
from cmgems.comparison.write import as_markdown_page, as_terminal_text
from cmgems.config.loading import dump
from cmgems.errors import UserError
from cmgems.runs.experiment import load


@pytest.fixture
def sweep(tmp_path):
    """random, one strategy that is better by 0.02 bits, one that is not; three seeds."""
    rng = np.random.default_rng(0)
    for seed in range(3):
        shared = 1.95 + 0.01 * rng.standard_normal()
        noise = 0.001 * rng.standard_normal(3)
        folder = tmp_path / "sweep"
        write_run(folder / f"random-seed{seed}", "random", seed, shared + noise[0], 0.7)
        write_run(folder / f"best-seed{seed}", "genemask", seed, shared - 0.02 + noise[1], 0.9)
        write_run(folder / f"same-seed{seed}", "uniform", seed, shared + noise[2], 0.7)
    return tmp_path / "sweep"


def test_runs_are_grouped_and_the_baseline_comes_first(sweep):
    comparison = compare(read_runs([sweep]))
    assert [group.label for group in comparison.groups] == ["random", "best", "same"]
    assert [group.seeds for group in comparison.groups] == [[0, 1, 2]] * 3
    assert comparison.varied == ["curriculum.strategies"]
    assert comparison.warnings == []
    titles = [metric.title for metric in comparison.results]
    assert titles[3:] == ["probe during the run: prom_core, auroc"]  # its official metric alone


def write_branches(folder, strategy, seed, bits_by_step):
    """Branches with common masks from steps of a run that was masked by a strategy."""
    parent = load(EXPERIMENTS / "pretrain/base.yaml", [f"curriculum.strategies=[{strategy}]"])
    for step, bits in bits_by_step.items():
        path = folder / f"{strategy}-seed{seed}-step{step}"
        write_run(path, "random_wide", seed, bits)
        overrides = [
            f"train.max_steps={step + 50}",
            "optim.schedule=wsd",
            "optim.decay_steps=50",
            f"branch.run=runs/{strategy}-seed{seed}",
            f"branch.step={step}",
            f"branch.sha256='{strategy}{seed}{step}'",
        ]
        experiment = load(path / "config.yaml", overrides)
        (path / "config.yaml").write_text(dump(experiment))
        (path / "parent.yaml").write_text(dump(replace(parent, seed=seed)))


def test_steps_to_match_are_read_off_measured_budgets(tmp_path):
    """Branches of one arm are one experiment; its curve is that of their ends."""
    for seed in range(3):
        noise = 1e-4 * seed
        write_branches(tmp_path, "random", seed, {200: 1.98 + noise, 950: 1.94 + noise})
        write_branches(
            tmp_path, "genemask", seed, {200: 1.96 + noise, 450: 1.92 + noise, 950: 1.91 + noise}
        )
    comparison = compare(read_runs([tmp_path]))
    assert [len(group.runs) for group in comparison.groups] == [3, 3]
    assert comparison.baseline.runs[0].parent.curriculum.strategies == ("random",)
    assert comparison.varied == ["parent.curriculum.strategies"]
    (contrast,) = comparison.results[HIDDEN_BITS].contrasts
    # 1.94 lies half-way between the ends at 250 and at 500 steps.
    assert contrast.steps_to_match.step == pytest.approx(375, abs=1)
    assert contrast.difference.paired.difference.mean == pytest.approx(-0.03)


def test_the_ends_of_budgets_are_a_table_and_a_chart(tmp_path):
    """`genemask` has one budget more than `random`; both are drawn where they have ended."""
    for seed in range(3):
        noise = 1e-3 * seed
        write_branches(tmp_path, "random", seed, {200: 1.98 + noise, 950: 1.94 + noise})
        write_branches(
            tmp_path, "genemask", seed, {200: 1.96 + noise, 450: 1.92 + noise, 950: 1.91 + noise}
        )
    comparison = compare(read_runs([tmp_path]))
    ends, *others = (each for each in tables(comparison) if "each budget" in each.title)
    assert (ends.title, others) == ("At the end of each budget: bits per hidden base", [])
    assert ends.head == ["experiment", "250 steps", "500 steps", "1,000 steps"]
    assert [row[0] for row in ends.rows] == ["random", "genemask"]
    assert ends.rows[0][1:] == ["1.9810 (1.9785 to 1.9835)", "", "1.9410 (1.9385 to 1.9435)"]
    assert [cell[:6] for cell in ends.rows[1][1:]] == ["1.9610", "1.9210", "1.9110"]
    (match,) = (t for t in tables(comparison) if t.title.endswith("random: bits per hidden base")
                and t.title.startswith("Steps"))  # fmt: skip
    assert "line between the ends of budgets" in match.note
    first = plot(comparison).axes[0]
    assert first.get_title() == "bits per hidden base, at the end of each budget"
    assert first.lines[1].get_xydata()[:, 0].tolist() == [0.5, 1.0, 2.0]  # million tokens
    assert first.lines[1].get_ydata() == pytest.approx([1.961, 1.921, 1.911])
    data = re.search(r"const DATA = (\{.*\});", page(comparison, "sweep"))
    drawn = json.loads(data.group(1))["charts"]
    assert [chart["ofBudgets"] for chart in drawn] == [True, False, False, False]
    assert drawn[0]["series"][1]["mean"] == pytest.approx([1.961, 1.921, 1.911])
    assert drawn[0]["lines"] == []  # references of the curves are of other windows


def test_an_arm_of_which_a_seed_has_fewer_budgets_is_two_and_says_so(tmp_path):
    """A sweep that is not finished: seed 1 has not ended at the largest budget yet."""
    write_branches(tmp_path, "random", 0, {200: 1.98, 450: 1.95, 950: 1.94})
    write_branches(tmp_path, "random", 1, {200: 1.98, 450: 1.95})
    labels = [group.label for group in compare(read_runs([tmp_path])).groups]
    assert labels == ["random, 1,000 steps", "random, 500 steps"]


def test_references_are_those_of_the_windows_of_a_chart(tmp_path):
    """Of the ends of budgets in unique DNA, of those over all, and of curves amid training."""
    for step in (200, 950):
        write_branches(tmp_path, "random", 0, {step: 1.95})
    for scalars in tmp_path.glob("*/metrics.csv"):
        with open(scalars, "a") as handle:
            for stratum, markov in (("unique", 1.96), ("all", 1.73)):
                bits = {"composition": 1.98, "markov": markov, "model": 1.95}
                handle.writelines(f"1000,final_{stratum}/{n}_bits,{b}\n" for n, b in bits.items())
    comparison = compare(read_runs([tmp_path]))
    shown = {
        (chart.metric.title, chart.of_budgets): [r.bits for r in references(comparison, chart)]
        for chart in charts(comparison)
    }
    bits, unique = "bits per hidden base", "bits per hidden base in unique DNA"
    assert shown[unique, True] == [1.98, 1.96]
    assert shown[bits, True] == [1.98, 1.73]
    assert shown[bits, False] == [1.92]
    assert shown["loss, random masks", False] == []
    final = tables(comparison)[0]
    assert "in unique DNA composition 1.9800, that Markov model 1.9600." in final.note


def test_scores_of_the_largest_budget_alone_are_compared(tmp_path):
    """Shorter branches need not be scored on labelled tasks."""
    scores = {}
    for seed in range(2):
        for name, score in (("random", 0.6), ("genemask", 0.7)):
            write_branches(tmp_path / "ends", name, seed, {200: 1.98 + seed / 1e3, 950: 1.94})
            scores[tmp_path / f"ends/{name}-seed{seed}-step950"] = score + seed / 1e3
    evaluation = write_evaluation(tmp_path / "few", scores)
    comparison = compare(read_runs([tmp_path / "ends", evaluation]))
    (metric,) = (metric for metric in comparison.results if metric.tag.startswith("scored"))
    single = list(csv.DictReader(runs_csv(comparison).splitlines()))
    scored = [(row["experiment"], row["steps"]) for row in single if row["tag"] == metric.tag]
    assert sorted(scored) == [("genemask", "1000")] * 2 + [("random", "1000")] * 2
    bits = [row["steps"] for row in single if row["tag"] == HIDDEN_BITS.tag]
    assert bits.count("250") == bits.count("1000") == 4
    (contrast,) = comparison.results[metric].contrasts
    assert contrast.difference.paired.difference.mean == pytest.approx(0.1)
    assert contrast.steps_to_match is None


def test_a_difference_is_paired_by_seed(sweep):
    """0.02 bits, where the seeds themselves differ by 0.01."""
    best, same = compare(read_runs([sweep])).results[HIDDEN_BITS].contrasts
    interval = best.difference.paired.difference
    assert interval.mean == pytest.approx(-0.02, abs=0.003)
    assert -0.025 < interval.low < interval.high < -0.015
    assert best.difference.corrected_p < 0.05
    assert same.difference.corrected_p > 0.05
    match = best.steps_to_match
    assert match.low < match.step < match.high < 1000


def test_the_verdict_says_what_was_found_and_what_was_not(sweep):
    lines = verdict(compare(read_runs([sweep])))
    assert lines[0] == (
        "By bits per hidden base: better than random: best; not told apart from random: same."
    )
    assert lines[1].startswith("p is corrected for all 4 comparisons of the matrix (Holm): 2 exp")
    assert lines[-1].startswith("No model beats the best Markov model (1.910 bits per hidden base")


def test_p_is_corrected_for_all_measures_together(sweep):
    """Two experiments by bits and by a probe; losses, which are only shown, do not count."""
    results = compare(read_runs([sweep])).results
    tested = [
        contrast.difference
        for metric, found in results.items()
        if metric.is_tested
        for contrast in found.contrasts
    ]
    order = sorted(tested, key=lambda difference: difference.paired.p)
    assert len(order) == 4
    least = 0.0
    for rank, difference in enumerate(order):
        least = min(max(least, difference.paired.p * (4 - rank)), 1.0)
        assert difference.corrected_p == pytest.approx(least)
    shown = [found for metric, found in results.items() if not metric.is_tested]
    assert len(shown) == 2
    assert all(np.isnan(c.difference.corrected_p) for found in shown for c in found.contrasts)


def write_evaluation(folder, scores, step=1000):
    """An evaluation with {model: mean accuracy of prom-core, 100 shots} and an untrained model."""
    folder.mkdir()
    (folder / "evaluation.yaml").write_text("protocol: few_shot\n")
    row = {"task": "prom-core", "shots": 100, "metric": "accuracy", "official": True}
    models = [{"name": str(name), "step": step} for name in scores]
    rows = [
        {"model": str(name), "mean": mean, "low": None, "high": None, "count": 1} | row
        for name, mean in scores.items()
    ]
    rows += [rows[0] | {"metric": "mcc", "official": False, "mean": 0.1}]
    rows += [{"model": "untrained", "mean": 0.5, "low": 0.45, "high": 0.55, "count": 10} | row]
    results = {"protocol": "few_shot", "models": models, "summaries": rows}
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def test_scores_of_an_evaluation_are_compared_like_any_metric(sweep, tmp_path):
    base = {"random": 0.60, "best": 0.70, "same": 0.60}
    noise = np.random.default_rng(1).normal(0, 0.002, (3, 3))
    scores = {
        sweep / f"{name}-seed{seed}": base[name] + 0.02 * seed + noise[index, seed]
        for index, name in enumerate(base)
        for seed in range(3)
    }
    comparison = compare(read_runs([sweep, write_evaluation(tmp_path / "few", scores)]))
    title = "few-shot: prom-core 100, accuracy"
    (metric,) = [metric for metric in comparison.results if metric.title == title]
    finals, (best, same) = comparison.results[metric]
    assert finals[0].values == [scores[sweep / f"random-seed{seed}"] for seed in range(3)]
    assert best.difference.paired.difference.mean == pytest.approx(0.1, abs=0.01)
    assert best.difference.corrected_p < 0.05 < same.difference.corrected_p
    shown = as_terminal_text(comparison)
    assert re.search(r"few-shot: prom-core 100, accuracy +better +not told apart", shown)
    assert "untrained" in shown
    assert "0.500 (0.450 to 0.550)" in shown
    (labelled,) = (table for table in tables(comparison) if table.title == "Labelled tasks")
    assert labelled.head[:2] == ["model", "mean rank"]  # of the probe and of few-shot
    ranks = {row[0]: row[1] for row in labelled.rows}
    assert float(ranks["best"].split()[0]) == 1.0
    assert ranks["untrained"] == ""
    assert f"Steps to match random: {metric.title}" not in shown  # one point is no curve
    data = re.search(r"const DATA = (\{.*\});", page(comparison, "sweep"))
    assert len(json.loads(data.group(1))["charts"]) == len(comparison.results) - 1


def test_checkpoints_of_several_steps_are_a_curve(sweep, tmp_path):
    early, last = sweep / "random-seed0/checkpoints/step=500.ckpt", sweep / "random-seed0"
    folder = write_evaluation(tmp_path / "few", {early: 0.55, last: 0.6})
    results = json.loads((folder / "results.json").read_text())
    results["models"][0]["step"] = 500
    (folder / "results.json").write_text(json.dumps(results))
    run = read_runs([sweep / "random-seed0", folder]).groups[0].runs[0]
    curve = run.curves["scored_few_shot/prom-core 100/accuracy"]
    assert curve.steps.tolist() == [500, 1000]
    assert curve.values.tolist() == [0.55, 0.6]


def test_an_evaluation_of_other_runs_is_refused_and_of_some_is_reported(sweep, tmp_path):
    other = write_evaluation(tmp_path / "other", {tmp_path / "elsewhere": 0.5})
    with pytest.raises(UserError, match=r"other/results.json: scores none of the runs"):
        read_runs([sweep, other])
    part = write_evaluation(tmp_path / "part", {sweep / "random-seed0": 0.5})
    comparison = compare(read_runs([sweep, part]))
    assert (
        "few_shot/prom-core 100/accuracy is known of 1 of 9 runs, left out" in comparison.warnings
    )
    (part / "results.json").write_text("{}")
    with pytest.raises(UserError, match=r"part/results.json: not the results of an evaluation"):
        read_runs([sweep, part])


def test_no_difference_found_is_said(tmp_path):
    rng = np.random.default_rng(3)
    for seed in range(3):
        for strategy in ("random", "uniform", "genemask"):
            bits = 1.95 + 0.01 * rng.standard_normal()
            write_run(tmp_path / f"{strategy}-seed{seed}", strategy, seed, bits)
    lines = verdict(compare(read_runs([tmp_path])))
    assert lines[0] == "By bits per hidden base: not told apart from random: genemask, uniform."


def test_there_is_nothing_to_match_where_the_baseline_has_not_improved(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"random-seed{seed}", "random", seed, 2.01 + 0.001 * seed)
        write_run(tmp_path / f"best-seed{seed}", "genemask", seed, 1.90 + 0.002 * seed)
    comparison = compare(read_runs([tmp_path]))
    assert comparison.results[HIDDEN_BITS].contrasts[0].steps_to_match is None
    note = "random does not end better than it began: there is nothing to match."
    assert note in as_terminal_text(comparison)


def test_one_seed_says_nothing(tmp_path):
    write_run(tmp_path / "random", "random", 0, 1.95)
    write_run(tmp_path / "best", "genemask", 0, 1.90)
    comparison = compare(read_runs([tmp_path]))
    assert verdict(comparison)[0].startswith("Nothing can be concluded: fewer than two seeds")
    text = as_markdown_page(comparison)
    assert "Nothing is tested" in text
    assert "corrected for" not in text
    assert comparison.warnings == ["one seed only, so no interval: best, random"]


def test_seeds_that_only_one_has_are_left_out_of_the_difference(sweep):
    shutil.rmtree(sweep / "best-seed1")
    finals, (best, _) = compare(read_runs([sweep])).results[HIDDEN_BITS]
    assert best.difference.seeds == [0, 2]
    assert finals[1].interval.count == 2


def test_warns_where_results_do_not_compare(sweep):
    path = sweep / "same-seed0/config.yaml"
    path.write_text(path.read_text().replace("windows: 128", "windows: 64"))
    (sweep / "best-seed2/results.json").unlink()
    warnings = compare(read_runs([sweep])).warnings
    assert f"{sweep}/best-seed2: not finished, left out" in warnings
    assert any(line.startswith("validation.windows differs") for line in warnings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "no such folder"),
        (lambda folder: [p.unlink() for p in folder.glob("*/config.yaml")], "holds no runs"),
        (lambda folder: [p.unlink() for p in folder.glob("*/results.json")], "found no finished"),
        (lambda folder: (folder / "best-seed0/results.json").write_text("{"), "damaged"),
        (
            lambda folder: (folder / "best-seed0/metrics.csv").write_text("x\n1\n"),
            "not a run's sca",
        ),
        (
            lambda folder: shutil.copytree(folder / "best-seed0", folder / "b"),
            "are the same experi",
        ),
    ],
)
def test_refuses(change, message, sweep, capsys):
    change(sweep)
    assert main(["compare", str(sweep)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_refuses_an_unknown_baseline(sweep):
    with pytest.raises(UserError, match="baseline: found 'rndm', wanted one of best, random, same"):
        compare(read_runs([sweep]), "rndm")


def test_the_command_writes_what_can_be_traced(sweep, capsys):
    assert main(["compare", str(sweep), "baseline=same"]) == 0
    shown = capsys.readouterr().out
    assert "Steps to match same: bits per hidden base" in shown
    folder = sweep / "comparison"
    assert shown.splitlines()[-4:] == [
        f"{folder}/{name}" for name in ("compare.html", "compare.md", "runs.csv", "curves.png")
    ]
    with open(folder / "runs.csv") as handle:
        rows = [row for row in csv.DictReader(handle) if row["tag"] == HIDDEN_BITS.tag]
    assert len(rows) == 9
    for row in rows:
        with open(row["results"]) as handle:
            wanted = json.load(handle)["final"]["random_wide"]["hidden_base_bits"]
        assert float(row["value"]) == wanted
    markdown = (folder / "compare.md").read_text()
    for table in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_the_page_needs_nothing_else_and_no_name_breaks_it(sweep):
    comparison = compare(read_runs([sweep]))
    renamed = comparison.groups[1]._replace(label="</script><b>")
    results = {
        metric: MetricResults(finals, [best._replace(group=renamed), same])
        for metric, (finals, (best, same)) in comparison.results.items()
    }
    groups = [comparison.groups[0], renamed, comparison.groups[2]]
    text = page(replace(comparison, groups=groups, results=results), "a <title>")
    assert "</script><b>" not in text
    assert text.count("</script>") == 1
    outside = re.sub(r'"http://www.w3.org/2000/svg"', "", text)
    assert not re.search(r"https?:|src=|@import|url\((?!#)", outside)
    data = json.loads(re.search(r"const DATA = (.*);\n", text).group(1))
    assert [chart["id"] for chart in data["charts"]] == [f"chart-{n}" for n in range(4)]
    series = data["charts"][0]["series"]
    assert [curve["name"] for curve in series] == ["random", "</script><b>", "same"]
    assert series[0]["points"]["tokens"][-1] == pytest.approx(2.0)
    assert series[0]["points"]["seconds"][-1] == pytest.approx(50.0)


def drawn_by_a_browser(html, folder):
    """The page after its script has run."""
    path = folder / "page.html"
    path.write_text(html)
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/user"]
    words = ["chromium", *flags, "--dump-dom", path.as_uri()]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_a_browser_draws_the_curves(sweep, tmp_path):
    for scalars in sweep.glob("*/metrics.csv"):  # a reference far below the curves
        scalars.write_text(scalars.read_text().replace("markov_bits,1.92", "markov_bits,1.72"))
    drawn = drawn_by_a_browser(page(compare(read_runs([sweep])), "sweep"), tmp_path)
    assert drawn.count("<polyline") == 4 * 3
    assert "<circle" not in drawn
    assert "best Markov model (order 11): 1.720</text>" in drawn  # at the margin


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_a_browser_draws_the_ends_of_budgets(tmp_path):
    write_branches(tmp_path / "ends", "random", 0, {200: 1.98, 950: 1.94})
    write_branches(tmp_path / "ends", "genemask", 0, {200: 1.96, 450: 1.92, 950: 1.91})
    drawn = drawn_by_a_browser(page(compare(read_runs([tmp_path / "ends"])), "ends"), tmp_path)
    assert drawn.count("<polyline") == 4 * 2
    assert drawn.count("<circle") == 5
