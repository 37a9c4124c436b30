"""A comparison in sentences. Where no difference was found, the sentence says so."""

import math

from cmgems.comparison.compare import Comparison, Contrast
from cmgems.comparison.metrics import HIDDEN_BITS, Metric
from cmgems.utils.intervals import Interval

ALPHA = 0.05


def verdict(comparison: Comparison) -> list[str]:
    """One line per metric, which names the groups that differ; then what holds for all."""
    label = comparison.baseline.label
    lines = [
        _metric_verdict(metric, results.contrasts, label)
        for metric, results in comparison.results.items()
    ]
    return lines + _markov_verdict(comparison)


def is_significant(contrast: Contrast) -> bool:
    """Whether the difference is more than chance, after correction."""
    return contrast.difference.corrected_p < ALPHA


def is_better(contrast: Contrast, metric: Metric) -> bool:
    return bool((contrast.difference.paired.difference.mean < 0) == metric.lower_is_better)


def _metric_verdict(metric: Metric, contrasts: list[Contrast], baseline: str) -> str:
    if not contrasts:
        return f"{metric.title}: {baseline} alone, nothing to compare it with."
    tested = [contrast for contrast in contrasts if not math.isnan(contrast.difference.paired.p)]
    if not tested:
        return (
            f"{metric.title}: nothing can be concluded: fewer than two seeds in common with "
            f"{baseline}."
        )
    clauses = []
    for adjective, wanted in (("better", True), ("worse", False)):
        named = [c for c in tested if is_significant(c) and is_better(c, metric) is wanted]
        if named:
            listed = ", ".join(f"{c.group.label} by {_effect_size(c, metric)}" for c in named)
            clauses.append(f"{adjective} than {baseline}: {listed}")
    insignificant = [contrast for contrast in tested if not is_significant(contrast)]
    if insignificant:
        clauses.append(_no_difference(insignificant, len(tested), baseline))
    return f"{metric.title}: " + "; ".join(clauses) + "."


def _no_difference(insignificant: list[Contrast], num_tested: int, baseline: str) -> str:
    widest = max(
        (contrast.difference.paired.difference for contrast in insignificant),
        key=lambda interval: interval.high - interval.low,
    )
    count = len(insignificant)
    which = "for any of" if count == num_tested else f"for {count} of"
    size = _format_number(max(abs(widest.low), abs(widest.high)))
    return (
        f"no difference found from {baseline} {which} {num_tested} (a difference of up to {size} "
        f"cannot be excluded)"
    )


def _effect_size(contrast: Contrast, metric: Metric) -> str:
    interval = contrast.difference.paired.difference
    low, high = sorted((abs(interval.low), abs(interval.high)))
    unit = f" {metric.unit}" if metric.unit else ""
    return (
        f"{_format_number(abs(interval.mean))}{unit} ({_format_number(low)} to "
        f"{_format_number(high)}, p = {contrast.difference.corrected_p:.2g})"
    )


def _markov_verdict(comparison: Comparison) -> list[str]:
    """Whether any model predicts hidden bases better than a Markov model."""
    references = {
        run.results["reference"].get("markov_bits")
        for group in comparison.groups
        for run in group.runs
    } - {None}
    if HIDDEN_BITS not in comparison.results or not references:
        return []
    means = [final.interval.mean for final in comparison.results[HIDDEN_BITS].finals]
    bits, markov = min(means), max(references)
    if bits >= markov:
        return [
            f"No model beats the best Markov model ({markov:.3f} bits per hidden base; the best "
            f"model here has {bits:.3f})."
        ]
    best = comparison.groups[means.index(bits)]
    return [
        f"The best model, {best.label}, has {bits:.3f} bits per hidden base; the best Markov model "
        f"has {markov:.3f}."
    ]


def _format_number(value: float) -> str:
    return f"{value:.3f}" if abs(value) >= 0.0995 else f"{value:.2g}"


def format_interval(interval: Interval, digits: int = 4) -> str:
    """`mean (low to high)`; the mean alone where there is no interval."""
    if math.isnan(interval.low):
        return f"{interval.mean:.{digits}f}"
    return f"{interval.mean:.{digits}f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"
