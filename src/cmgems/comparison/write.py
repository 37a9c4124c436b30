"""A comparison to the terminal and to a folder."""

from pathlib import Path

from cmgems.comparison.compare import Comparison
from cmgems.comparison.page import page
from cmgems.comparison.plot import CURVES_NOTE, has_bands, plot
from cmgems.comparison.table import as_markdown, as_text
from cmgems.comparison.tables import runs_csv, tables
from cmgems.comparison.verdict import verdict
from cmgems.utils.escapes import markdown_text, printable
from cmgems.utils.files import atomic_write

CURVES = "curves.png"


def as_terminal_text(comparison: Comparison) -> str:
    parts = [as_text(table) for table in tables(comparison)]
    lines = [f"- {line}" for line in verdict(comparison)]
    lines += [f"! {line}" for line in comparison.warnings]
    return printable("\n\n".join([*parts, "\n".join(lines)]))


def as_markdown_page(comparison: Comparison) -> str:
    lines = [f"- {markdown_text(line)}" for line in verdict(comparison)]
    lines += [f"- Warning: {markdown_text(line)}." for line in comparison.warnings]
    plotted = f"![curves]({CURVES})"
    band = "Mean over seeds."
    if has_bands(comparison):
        band = "Mean over seeds; the band reaches from the lowest to the highest seed."
    parts = [
        "\n".join(lines),
        plotted,
        f"{band} {CURVES_NOTE}",
        "\n".join(map(as_markdown, tables(comparison))),
    ]
    return "\n\n".join(parts)


def write_comparison(comparison: Comparison, folder: Path, title: str) -> list[Path]:
    """Write compare.html, compare.md, runs.csv and curves.png; the folder is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "compare.html": page(comparison, title),
        "compare.md": as_markdown_page(comparison),
        "runs.csv": runs_csv(comparison),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as handle:
            handle.write(text)
    with atomic_write(folder / CURVES, "wb") as handle:
        plot(comparison).savefig(handle, format="png", dpi=90)
    return [folder / name for name in (*texts, CURVES)]
