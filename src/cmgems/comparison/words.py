"""What a comparison found, in sentences. A difference that was not found is said not to be."""

import math

from cmgems.comparison.compare import HIDDEN_BITS, Comparison, Measure, Row
from cmgems.utils.intervals import Interval

ALPHA = 0.05


def verdict(found: Comparison) -> list[str]:
    """One line a measure, each ending with the groups that differ; then what holds for all."""
    lines = [_measure_line(found, measure, rows) for measure, rows in found.rows.items()]
    return lines + _markov_line(found)


def differs(row: Row) -> bool:
    """Whether the difference is more than chance, after correction."""
    return row.difference is not None and row.difference.corrected_p < ALPHA


def better(row: Row, measure: Measure) -> bool:
    return bool((row.difference.paired.difference.mean < 0) == measure.lower_is_better)


def _measure_line(found: Comparison, measure: Measure, rows: list[Row]) -> str:
    others = rows[1:]
    label = found.baseline.label
    if not others:
        return f"{measure.title}: {label} alone, nothing to compare it with."
    tested = [row for row in others if not math.isnan(row.difference.paired.p)]
    if not tested:
        return f"{measure.title}: nothing can be said: fewer than two seeds in common with {label}."
    sentences = []
    for word, wanted in (("better", True), ("worse", False)):
        named = [row for row in tested if differs(row) and better(row, measure) is wanted]
        if named:
            listed = ", ".join(f"{row.group.label} by {_size(row, measure)}" for row in named)
            sentences.append(f"{word} than {label}: {listed}")
    alike = sum(not differs(row) for row in tested)
    if alike:
        sentences.append(_none_found(alike, len(tested), label, tested))
    return f"{measure.title}: " + "; ".join(sentences) + "."


def _none_found(alike: int, of: int, label: str, tested: list[Row]) -> str:
    widest = max(
        (row.difference.paired.difference for row in tested if not differs(row)),
        key=lambda interval: interval.high - interval.low,
    )
    which = "for any of" if alike == of else f"for {alike} of"
    size = f"{_number(max(abs(widest.low), abs(widest.high)))}"
    return (
        f"no difference found from {label} {which} {of} (a difference of up to {size} cannot be "
        f"excluded)"
    )


def _size(row: Row, measure: Measure) -> str:
    interval = row.difference.paired.difference
    low, high = sorted(abs(end) for end in interval[1:3])
    unit = f" {measure.unit}" if measure.unit else ""
    return (
        f"{_number(abs(interval.mean))}{unit} ({_number(low)} to {_number(high)}, p = "
        f"{row.difference.corrected_p:.2g})"
    )


def _markov_line(found: Comparison) -> list[str]:
    """Whether any model knows more of hidden bases than a Markov model."""
    references = {
        run.results["reference"].get("markov_bits") for group in found.groups for run in group.runs
    } - {None}
    if HIDDEN_BITS not in found.rows or not references:
        return []
    rows = found.rows[HIDDEN_BITS]
    best = min(rows, key=lambda row: row.figure.interval.mean)
    bits, markov = best.figure.interval.mean, max(references)
    if bits >= markov:
        return [
            f"No model beats the best Markov model ({markov:.3f} bits a hidden base; the best here "
            f"has {bits:.3f}): what differs so far is how well k-mers are copied from neighbours."
        ]
    return [
        f"The best model, {best.group.label}, has {bits:.3f} bits a hidden base; the best "
        f"Markov model {markov:.3f}."
    ]


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) >= 0.0995 else f"{value:.2g}"


def interval_text(interval: Interval, digits: int = 4) -> str:
    """`mean (low to high)`; the mean alone where there is no interval."""
    if math.isnan(interval.low):
        return f"{interval.mean:.{digits}f}"
    return f"{interval.mean:.{digits}f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"
