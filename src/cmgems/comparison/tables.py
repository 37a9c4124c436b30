"""A comparison as tables, and the tables as text, Markdown and CSV."""

import csv
import io
import math
from typing import NamedTuple

from cmgems.comparison.compare import Comparison, improved
from cmgems.comparison.matrix import ALPHA, Matrix, outcome, verdict_matrix
from cmgems.comparison.metrics import (
    HIDDEN_BITS,
    JUDGED,
    VALIDATION_METRICS,
    Metric,
    final_value,
    has_curve,
    seconds_per_step,
    tokens_per_step,
)
from cmgems.comparison.records import Group, format_value
from cmgems.comparison.steps_to_match import StepsToMatch
from cmgems.comparison.verdict import format_interval
from cmgems.utils.escapes import csv_cell, markdown_cell, markdown_text
from cmgems.utils.text_table import text_table

NOT_REACHED = "not reached"
VERDICT = "Verdict against"


class Table(NamedTuple):
    title: str
    head: list[str]
    rows: list[list[str]]
    note: str


def tables(comparison: Comparison) -> list[Table]:
    """All of them, in the order in which they are read."""
    task_metrics = [metric for metric in comparison.results if metric not in VALIDATION_METRICS]
    shown = [_final_values(comparison)]
    judges = [metric for metric in comparison.results if metric in JUDGED]
    if judges:
        shown.append(_judges(comparison, judges))
    if task_metrics:
        shown.append(_labelled_tasks(comparison, task_metrics))
    if len(comparison.groups) > 1:
        matrix = verdict_matrix(comparison)
        shown.append(matrix_table(matrix, comparison.baseline.label))
        shown += [_differences(comparison, metric, matrix) for metric in matrix.metrics]
        with_curve = [m for m in comparison.results if has_curve(comparison.baseline, m)]
        shown += [_steps_to_match(comparison, metric) for metric in with_curve]
    return [*shown, _configurations(comparison)]


def matrix_table(matrix: Matrix, baseline: str) -> Table:
    """One row per measure and one column per experiment, since measures have the longer names."""
    head = ["measure", *(row.group.label for row in matrix.rows)]
    rows = [
        [metric.title, *(row.cells[index].outcome for row in matrix.rows)]
        for index, metric in enumerate(matrix.metrics)
    ]
    if len(matrix.judges) > 1:
        rows.append(["all judges of unique DNA", *(row.summary_in_full for row in matrix.rows)])
    return Table(f"{VERDICT} {baseline}", head, rows, matrix_note(matrix))


def matrix_note(matrix: Matrix) -> str:
    if not matrix.comparisons:
        return "Nothing is tested, since intervals take two seeds."
    return (
        f"Better or worse: p below {ALPHA}, corrected for all {matrix.comparisons} comparisons of "
        f"this table (Holm). Not told apart is no proof of being equal: the 95 % intervals of the "
        f"differences, which are not corrected, say how far apart they may be."
    )


def _final_values(comparison: Comparison) -> Table:
    metrics = [
        metric
        for metric in comparison.results
        if metric in VALIDATION_METRICS and metric not in JUDGED
    ]
    head = ["experiment", "seeds", *(metric.title for metric in metrics)]
    head += ["million tokens", "seconds"]
    rows = []
    for index, group in enumerate(comparison.groups):
        cells = [
            format_interval(comparison.results[metric].finals[index].interval) for metric in metrics
        ]
        steps = group.runs[0].experiment.train.max_steps
        cells.append(f"{tokens_per_step(group) * steps / 1e6:.2f}")
        cells.append(f"{seconds_per_step(group) * steps:.0f}")
        rows.append([group.label, str(len(group.runs)), *cells])
    note = (
        f"At the end of the runs, on `validation.final_windows`: mean over seeds, "
        f"{_interval_note(comparison, metrics)}. Validation under masks that are the same for all "
        f"runs; lower is better, except for what is gained. A model does best under masks like "
        f"those that it was trained with: the losses favor `random` and `random_wide`, and bits of "
        f"hidden bases, which are under wide random masks, `random_wide`."
        f"{_references_note(comparison, metrics)}"
    )
    return Table("Final values", head, rows, note)


def _interval_note(comparison: Comparison, metrics: list[Metric]) -> str:
    windows = [
        final.windows
        for metric in metrics
        if metric.sums
        for final in comparison.results[metric].finals
    ]
    if not any(windows):
        return "95 % interval over seeds (Student)"
    return f"95 % interval over seeds and {max(windows):,} windows (losses: over seeds)"


def _judges(comparison: Comparison, metrics: list[Metric]) -> Table:
    """One row per experiment, one column per judge of unique DNA."""
    rows = [
        [
            group.label,
            *(
                format_interval(comparison.results[metric].finals[index].interval)
                for metric in metrics
            ),
        ]
        for index, group in enumerate(comparison.groups)
    ]
    note = (
        "Bits per hidden base in unique DNA under further fixed masks, and after recalibration (a "
        "temperature and a bias per base, fitted on other windows of the same masks): mean over "
        "seeds, 95 % interval over seeds and windows. `global_pmi`: by `published` PMI of the "
        "genome; `isolated`: no other hidden base is near. Compare within a column: masks differ "
        "in how easy their places are."
    )
    return Table("By judge", ["experiment", *(metric.judge for metric in metrics)], rows, note)


def _references_note(comparison: Comparison, metrics: list[Metric]) -> str:
    reference = comparison.baseline.runs[0].results["reference"]
    if HIDDEN_BITS not in metrics or not reference:
        return ""
    seen = reference.get("markov_seen_bits")
    equal_data = f"; counted on the DNA that the first run has seen {seen:.4f}" if seen else ""
    return (
        f" Without a network: composition {reference['composition_bits']:.4f} bits per hidden "
        f"base, best Markov model (order {reference['markov_order']}) "
        f"{reference['markov_bits']:.4f}{equal_data}."
    )


def _labelled_tasks(comparison: Comparison, metrics: list[Metric]) -> Table:
    """One row per model, one column per task."""
    rows = []
    for index, group in enumerate(comparison.groups):
        finals = [comparison.results[metric].finals[index] for metric in metrics]
        rows.append([group.label, *(format_interval(final.interval, 3) for final in finals)])
    for name in dict.fromkeys(score.name for score in comparison.reference_scores):
        intervals = {
            score.tag: score.interval for score in comparison.reference_scores if score.name == name
        }
        cells = [
            format_interval(intervals[metric.tag], 3) if metric.tag in intervals else ""
            for metric in metrics
        ]
        rows.append([name, *cells])
    note = (
        "The official metric of each task on its test split; higher is better (mse: lower). For "
        "runs: mean over seeds of the mean over replicates, 95 % interval over seeds (Student). "
        "For reference models (untrained encoder, linear models): 95 % interval over replicates."
    )
    return Table("Labelled tasks", ["model", *(metric.title for metric in metrics)], rows, note)


def _differences(comparison: Comparison, metric: Metric, matrix: Matrix) -> Table:
    contrasts = comparison.results[metric].contrasts
    rows = []
    for contrast in contrasts:
        test = contrast.difference.paired
        rows.append(
            [
                contrast.group.label,
                str(len(contrast.difference.seeds)),
                _signed(test.difference.mean),
                _range(test.difference.low, test.difference.high),
                _p(test.p),
                _p(contrast.difference.corrected_p),
                outcome(contrast, metric),
            ]
        )
    head = ["experiment", "seeds", "difference", "95 % interval", "p", "corrected p", "verdict"]
    better = "negative" if metric.lower_is_better else "positive"
    label = comparison.baseline.label
    windows = max((contrast.difference.windows for contrast in contrasts), default=0)
    how = (
        f"Interval and p over seeds and the same {windows:,} windows, crossed"
        if windows
        else "Student's paired test over seeds"
    )
    note = f"{metric.title} minus that of {label} with the same seed; {better} is better."
    if matrix.comparisons:
        note += (
            f" {how}; p corrected for all {matrix.comparisons} comparisons of the verdict (Holm)."
        )
    return Table(f"Differences from {label}: {metric.title}", head, rows, note)


def _steps_to_match(comparison: Comparison, metric: Metric) -> Table:
    baseline = comparison.baseline
    head = ["experiment", "steps", "million tokens", "seconds", "reached"]
    title = f"Steps to match {baseline.label}: {metric.title}"
    if not improved(baseline, metric):
        note = f"{baseline.label} does not end better than it began: there is nothing to match."
        return Table(title, head, [], note)
    rows = [
        _steps_to_match_row(contrast.group, contrast.steps_to_match)
        for contrast in comparison.results[metric].contrasts
        if contrast.steps_to_match is not None
    ]
    steps = baseline.runs[0].experiment.train.max_steps
    cost = (
        f"{baseline.label} itself: {steps:,} steps, "
        f"{tokens_per_step(baseline) * steps / 1e6:.2f} million tokens, "
        f"{seconds_per_step(baseline) * steps:.0f} s"
    )
    note = (
        f"Where the mean curve first reaches the end of that of {baseline.label} ({cost}), and the "
        f"95 % interval over seeds (bootstrap with Student's weights, both curves together); last "
        f"column: the fraction of resamples that reach it. There is one schedule "
        f"of the learning rate: a shorter run, whose learning rate falls sooner, may do better "
        f"than this curve at the same step. Seconds are those of the machine that ran it."
    )
    return Table(title, head, rows, note)


def _steps_to_match_row(group: Group, match: StepsToMatch) -> list[str]:
    fraction = match.reached_fraction
    return [
        group.label,
        _format_match(match, 1, "{:,.0f}"),
        _format_match(match, tokens_per_step(group) / 1e6, "{:.2f}"),
        _format_match(match, seconds_per_step(group), "{:.0f}"),
        "" if math.isnan(fraction) else f"{fraction:.0%}",
    ]


def _configurations(comparison: Comparison) -> Table:
    rows = [
        [group.label, *(format_value(group.runs[0], key) for key in comparison.varied)]
        for group in comparison.groups
    ]
    note = "Config keys that differ between the experiments; all others are the same."
    return Table("Configurations", ["experiment", *comparison.varied], rows, note)


def _format_match(match: StepsToMatch, unit_per_step: float, template: str) -> str:
    def text(step: float) -> str:
        return template.format(step * unit_per_step) if math.isfinite(step) else NOT_REACHED

    if math.isnan(match.low) or match.step == match.low == math.inf:
        return text(match.step)
    return f"{text(match.step)} ({text(match.low)} to {text(match.high)})"


def _signed(value: float) -> str:
    return "" if math.isnan(value) else f"{value:+.4f}"


def _range(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"{_signed(low)} to {_signed(high)}"


def _p(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}" if value >= 0.001 else f"{value:.1g}"


def as_text(table: Table) -> str:
    """Aligned columns for a terminal."""
    rows = text_table([table.head, *table.rows], "<>", indent="  ")
    return f"{table.title}\n" + (rows if table.rows else f"  {table.note}")


def as_markdown(table: Table) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(map(markdown_cell, cells)) + " |"

    rule = line(["---", *["---:"] * (len(table.head) - 1)])
    rows = [line(table.head), rule, *map(line, table.rows)]
    title, note = markdown_text(table.title), markdown_text(table.note)
    return f"### {title}\n\n" + "\n".join(rows) + f"\n\n{note}\n"


def runs_csv(comparison: Comparison) -> str:
    """Every single value: one line per run and metric, with the results.json that it comes from."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["experiment", "seed", "measure", "tag", "value", "results"])
    for group in comparison.groups:
        for run in group.runs:
            seed, results_path = run.experiment.seed, run.path / "results.json"
            for metric in comparison.results:
                value = repr(final_value(run, metric))
                names = map(csv_cell, (group.label, metric.title, metric.tag))
                label, title, tag = names
                writer.writerow([label, seed, title, tag, value, csv_cell(str(results_path))])
    return out.getvalue()
