"""The matrix of a verdict as an HTML table: the interval is in each cell, and more on hover."""

import math
from html import escape
from itertools import groupby

from cmgems.comparison.matrix import OUTCOMES, Cell, Matrix
from cmgems.comparison.metrics import UNIQUE, Metric
from cmgems.comparison.styles import Style
from cmgems.comparison.tables import matrix_note

MATRIX_STYLE = """
.matrix { font-size: .82em; }
.matrix th, .matrix td { text-align: center; padding: .2em .35em; border: 1px solid #fff;
                         line-height: 1.25; vertical-align: middle; }
.matrix thead th { vertical-align: bottom; max-width: 8em; font-size: .9em; }
.matrix thead .group { background: #f1f1f1; }
.matrix th.arm { text-align: left; white-space: nowrap; font-weight: 400; position: sticky;
                 left: 0; background: #fff; }
.matrix small { display: block; color: #333; font-size: .82em; }
.matrix .better { background: #b9dfd0; } .matrix .worse { background: #f6cfb4; }
.matrix .undecided { background: #ececec; color: #555; } .matrix .depends { background: #fdf3c4; }
"""
CLASSES = dict(zip(OUTCOMES, ("better", "worse", "undecided"), strict=True))


def matrix_html(matrix: Matrix, baseline: str, styles: dict[str, Style]) -> str:
    """One row per experiment, one column per measure, and what all judges say together."""
    several = len(matrix.judges) > 1
    body = []
    for row in matrix.rows:
        label = row.group.label
        cells = [f'<th class="arm">{swatch(styles[label])}{escape(label)}</th>']
        if several:
            kind = CLASSES.get(row.summary, "depends")
            cells.append(f'<td class="{kind}">{escape(row.summary_in_full)}</td>')
        cells += [
            _cell(cell, metric) for cell, metric in zip(row.cells, matrix.metrics, strict=True)
        ]
        body.append(f"<tr>{''.join(cells)}</tr>")
    title = f"against {baseline}"
    return (
        f'<div class="scroll"><table class="matrix"><thead>{_head(matrix, title, several)}</thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
        f'<p class="note">{escape(matrix_note(matrix))}</p>'
    )


def _head(matrix: Matrix, title: str, several: bool) -> str:
    """Two rows: judges of the same thing stand under what they judge."""
    groups = [
        (is_judge, len(list(members)))
        for is_judge, members in groupby(matrix.metrics, lambda metric: bool(metric.judge))
    ]
    upper = "".join(
        f'<th class="group" colspan="{size}">{UNIQUE}, under masks of</th>'
        if is_judge
        else f'<th colspan="{size}"></th>'
        for is_judge, size in groups
    )
    lower = "".join(
        f"<th>{_breakable(metric.judge or metric.title)}</th>" for metric in matrix.metrics
    )
    both = ("<th></th>", "<th>all judges</th>") if several else ("", "")
    return (
        f"<tr><th></th>{both[0]}{upper}</tr>"
        f'<tr><th class="arm">{escape(title)}</th>{both[1]}{lower}</tr>'
    )


def _breakable(name: str) -> str:
    """Escaped, with places where a long name may go on in the next line."""
    return escape(name).replace("_", "_<wbr>").replace("/", "/<wbr>")


def _cell(cell: Cell, metric: Metric) -> str:
    test, difference = cell.difference.paired, cell.difference.paired.difference
    kind = CLASSES.get(cell.outcome, "undecided")
    if math.isnan(difference.mean):
        return f'<td class="{kind}">{escape(cell.outcome)}</td>'
    mean = f"{difference.mean:+.4f}"
    interval = (
        "" if math.isnan(difference.low) else f"{difference.low:+.4f} to {difference.high:+.4f}"
    )
    how = f"{len(cell.difference.seeds)} seeds"
    if cell.difference.windows:
        how += f" by {cell.difference.windows:,} windows"
    hover = f"{metric.title_with_unit}: {difference.mean:+.4f}"
    if interval:
        corrected = cell.difference.corrected_p
        hover += f" ({interval}), p {test.p:.2g}, corrected {corrected:.2g}"
    return (
        f'<td class="{kind}" title="{escape(f"{hover}; {how}")}">{escape(cell.outcome)}'
        f"<small>{mean}</small><small>{interval}</small></td>"
    )


def swatch(style: Style) -> str:
    """A piece of an experiment's line."""
    return (
        f'<svg class="swatch" viewBox="0 0 34 8"><line x1="0" x2="34" y1="4" y2="4" '
        f'stroke="{style.color}" stroke-width="2.5" '
        f'stroke-dasharray="{style.svg_dash(2.5)}"/></svg>'
    )
