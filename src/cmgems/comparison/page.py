"""A comparison as one HTML page, with curves that can be zoomed."""

import json
from collections.abc import Iterable
from html import escape
from importlib import resources
from typing import Any

from cmgems.comparison.compare import Comparison
from cmgems.comparison.curves import FIT_FROM, Chart, charts
from cmgems.comparison.matrix import DEPENDS, dependence, headline, verdict_matrix
from cmgems.comparison.matrix_html import MATRIX_STYLE, matrix_html, swatch
from cmgems.comparison.metrics import seconds_per_step, tokens_per_step
from cmgems.comparison.plot import CURVES_NOTE, references, styles
from cmgems.comparison.records import Group
from cmgems.comparison.styles import MAX_BANDS
from cmgems.comparison.table import Table
from cmgems.comparison.tables import VERDICT, tables
from cmgems.comparison.verdict import general_verdict
from cmgems.utils.html import html_page, html_table

AXES = (("steps", "optimizer steps"), ("tokens", "million tokens"), ("seconds", "seconds"))
LINE_WIDTH = 2  # of a curve, pixels
STYLE = """
.legend { position: sticky; top: 0; background: #fffd; padding: .4em 0; z-index: 1; }
.legend button { font: inherit; border: 0; background: none; cursor: pointer; padding: .1em .5em; }
.legend button.off { opacity: .3; } .legend label { margin-left: .8em; }
.swatch { display: inline-block; width: 34px; height: 8px; margin-right: .4em;
          vertical-align: middle; max-width: none; }
.chart { cursor: crosshair; user-select: none; } .chart .grid { stroke: #e8e8e8; }
.chart .tick { font: 12px system-ui, sans-serif; fill: #555; }
.chart .curve { fill: none; stroke-width: 2; }
.chart .reference { stroke: #b3261e; stroke-width: 1; stroke-dasharray: 14 4; }
.chart .name { font: 12px system-ui, sans-serif; fill: #b3261e; }
.chart .zoom { fill: #56b4e933; stroke: #0072b2; }
.readout { font: 12px/1.4 ui-monospace, Menlo, Consolas, monospace; min-height: 1.4em;
           color: #333; }
.verdict li { max-width: 85ch; margin: .3em 0; }
.headline { font-size: 1.1em; font-weight: 600; }
"""


def page(comparison: Comparison, title: str) -> str:
    """The whole page."""
    sections = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="note">{_subtitle(comparison)}</p>',
        *_verdict(comparison),
        *(f'<p class="note">Warning: {escape(line)}.</p>' for line in comparison.warnings),
        "<h2>Curves</h2>",
        _legend(comparison),
        f'<p class="note">Mean over seeds; the band reaches from the lowest to the highest seed '
        f"(with more than {MAX_BANDS} curves, of the one next to the mouse). Drag to zoom in, "
        f"double click to zoom out, click a name to hide it. Axes fit what comes after the first "
        f"{FIT_FROM:.0%} of the runs. {CURVES_NOTE}</p>",
        *(_chart(chart, number) for number, chart in enumerate(charts(comparison))),
        # The matrix is on top.
        *(_table(table) for table in tables(comparison) if not table.title.startswith(VERDICT)),
        "<h2>Runs</h2>",
        _runs(comparison),
    ]
    code = resources.files("cmgems.comparison").joinpath("plots.js").read_text(encoding="utf-8")
    # "<" as an escape: nothing in a name can end the script.
    data = json.dumps(_data(comparison)).replace("<", "\\u003c")
    return html_page(title, sections, STYLE + MATRIX_STYLE, f"const DATA = {data};\n{code}")


def _verdict(comparison: Comparison) -> list[str]:
    """One sentence, the matrix, and what is to be said of it."""
    matrix, baseline = verdict_matrix(comparison), comparison.baseline.label
    lines = [dependence(row, baseline) for row in matrix.rows if row.summary == DEPENDS]
    sentences = [*lines, *general_verdict(comparison, matrix)]
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    parts = [f'<p class="headline">{escape(headline(matrix, baseline))}</p>']
    if matrix.rows:
        parts.append(matrix_html(matrix, baseline, styles(comparison)))
    return [*parts, f'<ul class="verdict">{items}</ul>']


def _subtitle(comparison: Comparison) -> str:
    runs = sum(len(group.runs) for group in comparison.groups)
    genome = comparison.baseline.runs[0].results["genome"]
    return escape(
        f"{runs} runs of {len(comparison.groups)} experiments on {genome['name']} "
        f"({genome['bases']:,} bases), compared with {comparison.baseline.label}."
    )


def _legend(comparison: Comparison) -> str:
    buttons = "".join(
        f'<button data-curve="{escape(name)}">{swatch(style)}{escape(name)}</button>'
        for name, style in styles(comparison).items()
    )
    choices = "".join(
        f'<label><input type="radio" name="axis" value="{key}"{" checked" if not index else ""}> '
        f"{title}</label>"
        for index, (key, title) in enumerate(AXES)
    )
    return f'<div class="legend">{buttons}<br>against {choices}</div>'


def _chart(chart: Chart, number: int) -> str:
    return (
        f"<h3>{escape(chart.title)}</h3>"
        f'<svg class="chart" id="chart-{number}"></svg><pre class="readout"></pre>'
    )


def _table(table: Table) -> str:
    return (
        f"<h2>{escape(table.title)}</h2>{html_table(table.head, table.rows)}"
        f'<p class="note">{escape(table.note)}</p>'
    )


def _runs(comparison: Comparison) -> str:
    rows = (
        (
            group.label,
            str(run.experiment.seed),
            str(run.path / "results.json"),
            (run.results["git_revision"] or "")[:12],
        )
        for group in comparison.groups
        for run in group.runs
    )
    return html_table(("experiment", "seed", "results", "code"), rows)


def _data(comparison: Comparison) -> dict[str, Any]:
    """What plots.js draws."""
    drawn = [
        {
            "id": f"chart-{number}",
            "ofBudgets": chart.of_budgets,
            "series": [_series(group, chart) for group in comparison.groups],
            "lines": _lines(comparison, chart),
        }
        for number, chart in enumerate(charts(comparison))
    ]
    by_label = {
        name: {"color": style.color, "dash": style.svg_dash(LINE_WIDTH)}
        for name, style in styles(comparison).items()
    }
    return {
        "axes": AXES,
        "styles": by_label,
        "maxBands": MAX_BANDS,
        "fitFrom": FIT_FROM,
        "charts": drawn,
    }


def _series(group: Group, chart: Chart) -> dict[str, Any]:
    steps_E, curves_RE = chart.points(group)
    per_step = {
        "steps": 1.0,
        "tokens": tokens_per_step(group) / 1e6,
        "seconds": seconds_per_step(group),
    }
    return {
        "name": group.label,
        "points": {key: _rounded(steps_E * unit) for key, unit in per_step.items()},
        "mean": _rounded(curves_RE.mean(0)),
        "low": _rounded(curves_RE.min(0)),
        "high": _rounded(curves_RE.max(0)),
    }


def _lines(comparison: Comparison, chart: Chart) -> list[dict[str, Any]]:
    return [
        {"name": reference.name, "value": reference.bits}
        for reference in references(comparison, chart)
    ]


def _rounded(values: Iterable[float]) -> list[float]:
    """Six digits, which keeps the page small."""
    return [float(f"{value:.6g}") for value in values]
