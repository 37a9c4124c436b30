"""Self-contained HTML pages: no font, no network, and no script but their own."""

import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1b1b; max-width: 1120px; margin: 2em auto;
       padding: 0 1em; }
h1 { font-size: 1.6em; margin-bottom: 0; } h2 { font-size: 1.2em; margin-top: 2em;
     border-bottom: 1px solid #ccc; } h3 { font-size: 1em; margin: 1.3em 0 .2em; }
p { max-width: 85ch; } .note { color: #555; margin-top: .2em; }
/* a wide table scrolls within the page */
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block;
        overflow-x: auto; max-width: 100%; }
th, td { text-align: right; padding: .15em .7em; border-bottom: 1px solid #e5e5e5; }
th { font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
.scroll { overflow-x: auto; }
svg { max-width: 100%; height: auto; display: block; }
"""


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the cells are text, escaped here."""

    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    return f'<div class="scroll"><table>{row(head, "th")}{body}</table></div>'


def html_page(title: str, sections: Iterable[str], style: str = "", script: str = "") -> str:
    """A whole page.

    Parameters
    ----------
    title : text, escaped here
    sections : HTML
    style : CSS rules in addition to the common ones
    script : JavaScript, run at the end of the body; must not contain a closing script tag
    """
    head = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
    code = f"<script>{script}</script>" if script else ""
    body = "\n".join(sections)
    return f"{head}</title><style>{STYLE}{style}</style></head><body>\n{body}{code}</body></html>"


def inline_svg(figure: "Figure") -> str:
    """A figure as an SVG element; the same figure is the same text."""
    from matplotlib import rc_context  # pages without figures do not wait for it

    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "cmgems"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
