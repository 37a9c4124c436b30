"""A comparison as tables, and the tables as text, Markdown and CSV."""

import csv
import io
import math
from typing import NamedTuple

from cmgems.comparison.compare import (
    FIXED,
    HIDDEN_BITS,
    Comparison,
    Measure,
    final,
    is_curve,
    learned,
    seconds_per_step,
    tokens_per_step,
)
from cmgems.comparison.matching import Match
from cmgems.comparison.records import shown_value
from cmgems.comparison.words import interval_text
from cmgems.utils.text_table import text_table

NOT_REACHED = "not reached"


class Table(NamedTuple):
    title: str
    head: list[str]
    rows: list[list[str]]
    note: str


def tables(found: Comparison) -> list[Table]:
    """All of them, in the order in which they are read."""
    labelled = [measure for measure in found.rows if measure not in FIXED]
    shown = [_finals(found)]
    if labelled:
        shown.append(_labelled(found, labelled))
    if len(found.groups) > 1:
        shown += [_differences(found, measure) for measure in found.rows]
        curves = [measure for measure in found.rows if is_curve(found.baseline, measure)]
        shown += [_matches(found, measure) for measure in curves]
    return [*shown, _configurations(found)]


def _finals(found: Comparison) -> Table:
    fixed = [measure for measure in found.rows if measure in FIXED]
    head = ["experiment", "seeds", *(measure.title for measure in fixed)]
    head += ["million tokens", "seconds"]
    rows = []
    for place, group in enumerate(found.groups):
        figures = [interval_text(found.rows[one][place].figure.interval) for one in fixed]
        steps = group.runs[0].experiment.train.max_steps
        cost = [tokens_per_step(group) * steps / 1e6, seconds_per_step(group) * steps]
        costs = [f"{cost[0]:.2f}", f"{cost[1]:.0f}"]
        rows.append([group.label, str(len(group.runs)), *figures, *costs])
    reference = found.baseline.runs[0].results["reference"]
    markov = ""
    if HIDDEN_BITS in fixed and reference:
        markov = (
            f" Without a network: composition {reference['composition_bits']:.4f} bits a hidden "
            f"base, best Markov model (order {reference['markov_order']}) "
            f"{reference['markov_bits']:.4f}."
        )
    note = (
        "At the end of the runs: mean over seeds, 95 % interval (Student). Validation under masks "
        "that are the same for all runs; lower is better. Under the masks that it was trained with "
        "a model is at home, so the losses favour `random` and `random_wide`; hidden bases favour "
        f"none.{markov}"
    )
    return Table("Final figures", head, rows, note)


def _labelled(found: Comparison, measures: list[Measure]) -> Table:
    """A row a model, a column a task."""
    rows = [
        [
            group.label,
            *(interval_text(found.rows[one][place].figure.interval, 3) for one in measures),
        ]
        for place, group in enumerate(found.groups)
    ]
    for name in dict.fromkeys(one.name for one in found.beside):
        its = {one.tag: one.interval for one in found.beside if one.name == name}
        rows.append(
            [name, *(interval_text(its[m.tag], 3) if m.tag in its else "" for m in measures)]
        )
    note = (
        "The official metric of each task on its test split; higher is better (mse: lower). Of "
        "runs: mean over seeds of the mean over draws, 95 % interval over seeds (Student). Of what "
        "is beside them (untrained encoder, linear models): 95 % interval over draws."
    )
    return Table("Labelled tasks", ["model", *(one.title for one in measures)], rows, note)


def _differences(found: Comparison, measure: Measure) -> Table:
    rows = []
    for row in found.rows[measure][1:]:
        test = row.difference.paired
        rows.append(
            [
                row.group.label,
                str(len(row.difference.seeds)),
                _signed(test.difference.mean),
                _range(test.difference.low, test.difference.high),
                _p(test.p),
                _p(row.difference.corrected_p),
            ]
        )
    head = ["experiment", "seeds", "difference", "95 % interval", "p", "corrected p"]
    better = "negative" if measure.lower_is_better else "positive"
    note = (
        f"{measure.title} less that of {found.baseline.label} with the same seed; {better} is "
        f"better. Student's paired test, p corrected for the {len(rows)} comparisons of this table "
        f"(Holm)."
    )
    return Table(f"Differences from {found.baseline.label}: {measure.title}", head, rows, note)


def _matches(found: Comparison, measure: Measure) -> Table:
    rows = []
    base = found.baseline
    head = ["experiment", "steps", "million tokens", "seconds", "reached"]
    title = f"Steps to match {base.label}: {measure.title}"
    if not learned(base, measure):
        note = f"{base.label} does not end better than it began: there is nothing to match."
        return Table(title, head, [], note)
    for row in found.rows[measure][1:]:
        tokens, seconds = tokens_per_step(row.group) / 1e6, seconds_per_step(row.group)
        rows.append(
            [
                row.group.label,
                _reached(row.match, 1, "{:,.0f}"),
                _reached(row.match, tokens, "{:.2f}"),
                _reached(row.match, seconds, "{:.0f}"),
                "" if math.isnan(row.match.reached) else f"{row.match.reached:.0%}",
            ]
        )
    steps = base.runs[0].experiment.train.max_steps
    own = (
        f"{base.label} itself: {steps:,} steps, {tokens_per_step(base) * steps / 1e6:.2f} million "
        f"tokens, {seconds_per_step(base) * steps:.0f} s"
    )
    note = (
        f"Where the mean curve first reaches the final figure of {base.label} ({own}), and the 95 "
        f"% interval over seeds (bootstrap with Student's weights, curve and figure together); "
        f"last column: share of the draws that reach it. One schedule of the learning rate: a "
        f"shorter run, whose rate falls sooner, may do better than this curve at the same step. "
        f"Seconds are those of the machine that ran it."
    )
    return Table(title, head, rows, note)


def _configurations(found: Comparison) -> Table:
    rows = [
        [group.label, *(shown_value(group.runs[0], key) for key in found.varied)]
        for group in found.groups
    ]
    note = "Config keys that differ between the experiments; all others are the same."
    return Table("Configurations", ["experiment", *found.varied], rows, note)


def _reached(match: Match, unit: float, form: str) -> str:
    def text(step: float) -> str:
        return form.format(step * unit) if math.isfinite(step) else NOT_REACHED

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
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = line(["---", *["---:"] * (len(table.head) - 1)])
    rows = [line(table.head), rule, *map(line, table.rows)]
    return f"### {table.title}\n\n" + "\n".join(rows) + f"\n\n{table.note}\n"


def runs_csv(found: Comparison) -> str:
    """Every single figure: one line a run and measure, with the results.json that it is of."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["experiment", "seed", "measure", "tag", "value", "results"])
    for group in found.groups:
        for run in group.runs:
            for measure in found.rows:
                seed, place = run.experiment.seed, run.path / "results.json"
                value = repr(final(run, measure))
                writer.writerow([group.label, seed, measure.title, measure.tag, value, place])
    return out.getvalue()
