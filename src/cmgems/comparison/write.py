"""A comparison to the terminal and to a folder."""

from pathlib import Path

from cmgems.comparison.compare import Comparison
from cmgems.comparison.page import page
from cmgems.comparison.picture import picture
from cmgems.comparison.tables import as_markdown, as_text, runs_csv, tables
from cmgems.comparison.words import verdict
from cmgems.utils.files import atomic_write

PICTURE = "curves.png"


def terminal(found: Comparison) -> str:
    parts = [as_text(table) for table in tables(found)]
    words = [f"- {line}" for line in verdict(found)]
    words += [f"! {line}" for line in found.warnings]
    return "\n\n".join([*parts, "\n".join(words)])


def markdown(found: Comparison) -> str:
    lines = [f"- {line}" for line in verdict(found)]
    lines += [f"- Mind: {line}." for line in found.warnings]
    shown = f"![curves]({PICTURE})"
    band = "Mean over seeds; the band reaches from the lowest to the highest seed."
    parts = ["\n".join(lines), shown, band, "\n".join(map(as_markdown, tables(found)))]
    return "\n\n".join(parts)


def write(found: Comparison, folder: Path, title: str) -> list[Path]:
    """compare.html, compare.md, curves.png and runs.csv in a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "compare.html": page(found, title),
        "compare.md": markdown(found),
        "runs.csv": runs_csv(found),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as handle:
            handle.write(text)
    with atomic_write(folder / PICTURE, "wb") as handle:
        picture(found).savefig(handle, format="png", dpi=90)
    return [folder / name for name in (*texts, PICTURE)]
