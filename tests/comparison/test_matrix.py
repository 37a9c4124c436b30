"""The verdict as a matrix: over judges that agree and that do not, with windows and without."""

import re

import numpy as np
import pytest
from helpers.compared_runs import WINDOWS, write_arms

from cmgems.comparison.compare import compare
from cmgems.comparison.curves import charts
from cmgems.comparison.differences import difference
from cmgems.comparison.matrix import (
    BETTER,
    DEPENDS,
    NOT_TOLD_APART,
    WORSE,
    dependence,
    headline,
    verdict_matrix,
)
from cmgems.comparison.metrics import HIDDEN_BITS, JUDGED
from cmgems.comparison.page import page
from cmgems.comparison.plot import has_bands, plot, references
from cmgems.comparison.records import read_runs
from cmgems.comparison.styles import COLORS, arm_styles
from cmgems.comparison.verdict import verdict
from cmgems.errors import UserError
from cmgems.runs.hidden_bases import JUDGE_NAMES
from cmgems.utils.crossed_intervals import crossed_interval

EFFECTS = {
    "arm_1": dict.fromkeys(JUDGE_NAMES, -0.05),
    "arm_2": {"random_wide": 0.05, "global_pmi": -0.05},
    "arm_3": dict.fromkeys(JUDGE_NAMES, 0.05),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An arm that is better under all masks, one under some, one that is worse, one that is not."""
    path = tmp_path_factory.mktemp("arms")
    write_arms(path / "arms", 5, seeds=5, **EFFECTS)
    return path / "arms"


@pytest.fixture(scope="module")
def comparison(folder):
    return compare(read_runs([folder]))


def test_the_matrix_says_what_was_put_in(comparison):
    matrix = verdict_matrix(comparison)
    assert len(matrix.judges) == 2 * len(JUDGE_NAMES)
    assert [metric for metric in matrix.metrics if metric in JUDGED] == list(JUDGED)
    assert matrix.comparisons == 4 * len(matrix.metrics)
    rows = {row.group.label: row for row in matrix.rows}
    assert {name: row.summary for name, row in rows.items()} == {
        "arm_1": BETTER,
        "arm_2": DEPENDS,
        "arm_3": WORSE,
        "arm_4": NOT_TOLD_APART,
    }
    outcomes = {each: {m.judge for m in found} for each, found in rows["arm_2"].outcomes.items()}
    assert outcomes == {
        WORSE: {"random_wide", "random_wide recalibrated"},
        BETTER: {"global_pmi", "global_pmi recalibrated"},
        NOT_TOLD_APART: {"random", "isolated", "random recalibrated", "isolated recalibrated"},
    }


def test_one_sentence_and_what_depends_on_the_judge(comparison):
    matrix = verdict_matrix(comparison)
    assert headline(matrix, "random") == (
        "By bits per hidden base in unique DNA, judged in 8 ways: better than random by every "
        "judge: arm_1; worse than random by every judge: arm_3; depending on the judge: arm_2; not "
        "told apart from random by any judge: arm_4."
    )
    (line,) = [line for line in verdict(comparison) if "depends" in line]
    assert line == dependence(matrix.rows[1], "random")
    assert line.startswith("The verdict on arm_2 depends on the judge: better than random by globa")
    assert "worse than random by random_wide, random_wide recalibrated" in line


def test_judges_that_do_not_contradict_each_other_are_told_from_those_that_do(comparison):
    row = verdict_matrix(comparison).rows[1]
    assert (row.never, row.summary_in_full) == ("", "depends on the judge")
    mild = row._replace(outcomes=row.outcomes | {WORSE: []})
    assert mild.summary_in_full == "depends on the judge, never worse"
    assert dependence(mild, "random").endswith("; no judge finds it worse.")
    assert verdict_matrix(comparison).rows[0].never == ""


def test_differences_pair_seeds_and_windows(comparison):
    """From the arrays of the run folders, by hand."""
    (metric,) = [m for m in JUDGED if m.judge == "isolated"]
    for group in comparison.groups[1:]:
        sums = [
            [run.window_sums["isolated/unique/model"].astype(float) for run in arm.runs]
            for arm in (group, comparison.baseline)
        ]
        bases = group.runs[0].window_sums["isolated/unique/bases"]
        wanted = crossed_interval(np.array(sums[0]) - np.array(sums[1]), bases)
        found = difference(group, comparison.baseline, metric)
        assert found.paired == wanted
        assert found.windows == WINDOWS
        values = [run.curves[metric.tag].values[-1] for run in group.runs]
        others = [run.curves[metric.tag].values[-1] for run in comparison.baseline.runs]
        assert wanted.difference.mean == pytest.approx(np.mean(values) - np.mean(others), abs=1e-6)


def test_other_windows_are_not_paired_and_damage_is_reported(tmp_path):
    write_arms(tmp_path / "arms", 2, seeds=2)
    path = tmp_path / "arms/arm_1-seed0/window_sums.npz"
    with np.load(path) as arrays:
        changed = dict(arrays)
    changed["isolated/unique/bases"] = changed["isolated/unique/bases"][::-1].copy()
    np.savez_compressed(path, **changed)
    comparison = compare(read_runs([tmp_path / "arms"]))
    (warning,) = comparison.warnings
    assert warning.startswith("over seeds alone, since window_sums.npz is not alike in all runs: ")
    by_judge = {
        metric.judge: comparison.results[metric].contrasts[0].difference.windows
        for metric in comparison.results
        if metric.judge
    }
    assert by_judge["isolated"] == by_judge["isolated recalibrated"] == 0
    assert by_judge["random"] == by_judge["random_wide"] == WINDOWS
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"arm_1-seed0/window_sums.npz: damaged"):
        read_runs([tmp_path / "arms"])


def test_up_to_forty_experiments_look_different():
    for count in (3, 9, 20, 40):
        styles = list(arm_styles([f"arm {n}" for n in range(count)]).values())
        assert len(set(styles)) == count
        colors = [style.color for style in styles]
        assert len(set(colors)) == min(count, len(COLORS))
    assert styles[0] == ("#000000", ())
    assert styles[1].svg_dash(2) == "10 3"


def test_the_plot_has_the_colors_of_the_page_and_fits_the_curves(comparison):
    styles = arm_styles([group.label for group in comparison.groups])
    axes = plot(comparison).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    for name, style in styles.items():
        assert lines[name].get_color() == style.color
        assert f'"{name}": {{"color": "{style.color}"' in page(comparison, "arms")
    assert has_bands(comparison)
    bands = [band.get_facecolor()[0][:3].tolist() for band in axes.collections]
    colors = [style.color for style in styles.values()]
    wanted = [[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in colors]
    assert np.array(bands) == pytest.approx(np.array(wanted))
    low, high = axes.get_ylim()
    chart = charts(comparison)[0]
    assert (chart.metric, chart.of_budgets) == (HIDDEN_BITS, False)
    assert (low, high) == chart.value_range(comparison.groups)
    curves = [run.curves[HIDDEN_BITS.tag].values for g in comparison.groups for run in g.runs]
    late = np.array(curves)[:, 1:]
    assert low < late.min() < late.max() < high < late.max() + 0.06 * np.ptp(late)
    (markov,) = references(comparison, chart)
    texts = [text.get_text() for text in axes.texts]
    in_sight = low <= markov.bits <= high
    assert texts == [markov.name if in_sight else f"\u2193 {markov.name}: 1.920"]


def test_the_page_has_the_matrix_with_its_intervals(comparison):
    text = page(comparison, "arms")
    table = re.search(r'<table class="matrix">.*?</table>', text, re.DOTALL).group()
    matrix = verdict_matrix(comparison)
    assert table.count("<td") == 4 * (len(matrix.metrics) + 1)
    assert table.count('<td class="depends">depends on the judge</td>') == 1
    cell = matrix.rows[0].cells[0].difference.paired.difference
    hover = f"bits per hidden base, bits: {cell.mean:+.4f} ({cell.low:+.4f} to {cell.high:+.4f})"
    assert hover.replace("bits per hidden base, bits", HIDDEN_BITS.title_with_unit) in table
    assert f"<small>{cell.mean:+.4f}</small><small>{cell.low:+.4f} to {cell.high:+.4f}" in table
    assert text.index('class="headline"') < text.index("<table")
