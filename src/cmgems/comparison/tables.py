"""A comparison as tables, and as a CSV file of its single values."""

import csv
import io
import math

from cmgems.comparison.compare import Comparison
from cmgems.comparison.matrix import ALPHA, Matrix, outcome, verdict_matrix
from cmgems.comparison.metrics import (
    HIDDEN_BITS,
    JUDGED,
    VALIDATION_METRICS,
    Metric,
    final_value,
    last_value,
    seconds_per_step,
    tokens_per_step,
)
from cmgems.comparison.ranks import mean_ranks
from cmgems.comparison.records import format_value
from cmgems.comparison.step_tables import step_tables
from cmgems.comparison.table import Table
from cmgems.comparison.verdict import format_interval
from cmgems.utils.escapes import csv_cell

VERDICT = "Verdict against"


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
    return [*shown, *step_tables(comparison), _configurations(comparison)]


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
        f"{reference['markov_bits']:.4f}{equal_data}{_unique_references(comparison)}."
    )


def _unique_references(comparison: Comparison) -> str:
    run = comparison.baseline.runs[0]
    composition, markov = (
        last_value(run, f"final_unique/{name}_bits") for name in ("composition", "markov")
    )
    if composition is None or markov is None:
        return ""
    return f"; in unique DNA composition {composition:.4f}, that Markov model {markov:.4f}"


def _labelled_tasks(comparison: Comparison, metrics: list[Metric]) -> Table:
    """One row per model, one column per task; of several tasks the mean rank in front."""
    is_ranked = len(metrics) > 1 and len(comparison.groups) > 1
    ranks = mean_ranks(comparison.groups, metrics) if is_ranked else []
    rows = []
    for index, group in enumerate(comparison.groups):
        finals = [comparison.results[metric].finals[index] for metric in metrics]
        rank = [format_interval(ranks[index], 2)] if is_ranked else []
        rows.append([group.label, *rank, *(format_interval(final.interval, 3) for final in finals)])
    for name in dict.fromkeys(score.name for score in comparison.reference_scores):
        intervals = {
            score.tag: score.interval for score in comparison.reference_scores if score.name == name
        }
        cells = [
            format_interval(intervals[metric.tag], 3) if metric.tag in intervals else ""
            for metric in metrics
        ]
        rows.append([name, *[""] * is_ranked, *cells])
    note = (
        "The official metric of each task on its test split; higher is better (mse: lower). For "
        "runs: mean over seeds of the mean over replicates, 95 % interval over seeds (Student). "
        "For reference models (untrained encoder, linear models): 95 % interval over replicates."
    )
    head = ["model", *["mean rank"] * is_ranked, *(metric.title for metric in metrics)]
    if is_ranked:
        note += (
            f" Mean rank: among these {len(comparison.groups)} experiments, 1 is the best; mean "
            f"over tasks, 95 % interval over seeds."
        )
    return Table("Labelled tasks", head, rows, note)


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


def _configurations(comparison: Comparison) -> Table:
    rows = [
        [group.label, *(format_value(group.runs[0], key) for key in comparison.varied)]
        for group in comparison.groups
    ]
    note = "Config keys that differ between the experiments; all others are the same."
    return Table("Configurations", ["experiment", *comparison.varied], rows, note)


def _signed(value: float) -> str:
    return "" if math.isnan(value) else f"{value:+.4f}"


def _range(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"{_signed(low)} to {_signed(high)}"


def _p(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}" if value >= 0.001 else f"{value:.1g}"


def runs_csv(comparison: Comparison) -> str:
    """Every single value: one line per run and metric, with the results.json that it comes from;
    of branches those of all budgets."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["experiment", "seed", "steps", "measure", "tag", "value", "results"])
    for group in comparison.groups:
        for run in (each for longest in group.runs for each in (*longest.shorter, longest)):
            label, path = csv_cell(group.label), csv_cell(str(run.path / "results.json"))
            about = [label, run.experiment.seed, run.experiment.train.max_steps]
            for metric in comparison.results:
                if metric.tag in run.curves:  # shorter branches need not be scored
                    title, tag = csv_cell(metric.title), csv_cell(metric.tag)
                    writer.writerow([*about, title, tag, repr(final_value(run, metric)), path])
    return out.getvalue()
