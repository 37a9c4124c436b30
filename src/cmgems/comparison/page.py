"""A comparison as one HTML page, with curves that can be zoomed."""

import json
from html import escape
from importlib import resources
from typing import Any

from cmgems.comparison.compare import (
    Comparison,
    Measure,
    matrix,
    seconds_per_step,
    tokens_per_step,
)
from cmgems.comparison.picture import colours, curves, reference
from cmgems.comparison.records import Group
from cmgems.comparison.tables import Table, tables
from cmgems.comparison.words import verdict
from cmgems.utils.html import html_page, html_table

AXES = (("steps", "optimiser steps"), ("tokens", "million tokens"), ("seconds", "seconds"))
STYLE = """
.legend { position: sticky; top: 0; background: #fffd; padding: .4em 0; z-index: 1; }
.legend button { font: inherit; border: 0; background: none; cursor: pointer; padding: .1em .5em; }
.legend button i { display: inline-block; width: 1.3em; height: .28em; margin-right: .4em;
                   vertical-align: middle; }
.legend button.off { opacity: .3; } .legend label { margin-left: .8em; }
.chart { cursor: crosshair; user-select: none; } .chart .grid { stroke: #e8e8e8; }
.chart .tick { font: 12px system-ui, sans-serif; fill: #555; }
.chart .curve { fill: none; stroke-width: 2; }
.chart .reference { stroke: #b3261e; stroke-dasharray: 6 4; }
.chart .zoom { fill: #56b4e933; stroke: #0072b2; }
.told { font: 12px/1.4 ui-monospace, Menlo, Consolas, monospace; min-height: 1.4em; color: #333; }
.verdict li { max-width: 85ch; margin: .3em 0; }
"""


def page(found: Comparison, title: str) -> str:
    """The whole page."""
    sections = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="note">{_what(found)}</p>',
        '<ul class="verdict">' + "".join(f"<li>{escape(s)}</li>" for s in verdict(found)) + "</ul>",
        *(f'<p class="note">Mind: {escape(line)}.</p>' for line in found.warnings),
        "<h2>Curves</h2>",
        _legend(found),
        '<p class="note">Mean over seeds; the band reaches from the lowest to the highest seed. '
        "Drag to zoom in, double click to see all, click a name to hide it.</p>",
        *(_chart(measure, number) for number, measure in enumerate(curves(found))),
        *map(_table, tables(found)),
        "<h2>Runs</h2>",
        _runs(found),
    ]
    code = resources.files("cmgems.comparison").joinpath("plots.js").read_text(encoding="utf-8")
    # "<" as an escape: nothing in a name can end the script.
    data = json.dumps(_data(found)).replace("<", "\\u003c")
    return html_page(title, sections, STYLE, f"const DATA = {data};\n{code}")


def _what(found: Comparison) -> str:
    runs = sum(len(group.runs) for group in found.groups)
    genome = found.baseline.runs[0].results["genome"]
    return escape(
        f"{runs} runs of {len(found.groups)} experiments on {genome['name']} "
        f"({genome['bases']:,} bases), compared with {found.baseline.label}."
    )


def _legend(found: Comparison) -> str:
    its = colours(found)
    buttons = "".join(
        f'<button data-curve="{escape(name)}"><i style="background:{colour}"></i>{escape(name)}'
        "</button>"
        for name, colour in its.items()
    )
    choices = "".join(
        f'<label><input type="radio" name="axis" value="{key}"{" checked" if not place else ""}> '
        f"{title}</label>"
        for place, (key, title) in enumerate(AXES)
    )
    return f'<div class="legend">{buttons}<br>against {choices}</div>'


def _chart(measure: Measure, number: int) -> str:
    unit = f", {measure.unit}" if measure.unit not in measure.title else ""
    return (
        f"<h3>{escape(measure.title)}{unit}</h3>"
        f'<svg class="chart" id="chart-{number}"></svg><pre class="told"></pre>'
    )


def _table(table: Table) -> str:
    return (
        f"<h2>{escape(table.title)}</h2>{html_table(table.head, table.rows)}"
        f'<p class="note">{escape(table.note)}</p>'
    )


def _runs(found: Comparison) -> str:
    rows = (
        (
            group.label,
            str(run.experiment.seed),
            str(run.path / "results.json"),
            (run.results["git_revision"] or "")[:12],
        )
        for group in found.groups
        for run in group.runs
    )
    return html_table(("experiment", "seed", "figures", "code"), rows)


def _data(found: Comparison) -> dict[str, Any]:
    charts = []
    for number, measure in enumerate(curves(found)):
        series = [_series(group, measure) for group in found.groups]
        charts.append({"id": f"chart-{number}", "series": series, "lines": _lines(found, measure)})
    return {"axes": AXES, "colours": colours(found), "charts": charts}


def _series(group: Group, measure: Measure) -> dict[str, Any]:
    steps, curves_RT = matrix(group, measure)
    units = {"steps": 1.0, "tokens": tokens_per_step(group) / 1e6}
    units["seconds"] = seconds_per_step(group)
    return {
        "name": group.label,
        "points": {key: _short(steps * unit) for key, unit in units.items()},
        "mean": _short(curves_RT.mean(0)),
        "low": _short(curves_RT.min(0)),
        "high": _short(curves_RT.max(0)),
    }


def _lines(found: Comparison, measure: Measure) -> list[dict[str, Any]]:
    its = reference(found, measure)
    if its is None:
        return []
    name = f"best Markov model (order {its['markov_order']})"
    return [{"name": name, "value": its["markov_bits"]}]


def _short(values) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
