"""A table of a comparison, and as text and Markdown."""

from typing import NamedTuple

from cmgems.utils.escapes import markdown_cell, markdown_text
from cmgems.utils.text_table import text_table


class Table(NamedTuple):
    title: str
    head: list[str]
    rows: list[list[str]]
    note: str


def as_text(table: Table) -> str:
    """Aligned columns for a terminal."""
    rows = text_table([table.head, *table.rows], "<>", indent="  ")
    return f"{table.title}\n" + (rows if table.rows else f"  {table.note}")


def as_markdown(table: Table) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(map(markdown_cell, cells)) + " |"

    rule = line(["---", *["---:"] * (len(table.head) - 1)])
    rows = [line(table.head), rule, *map(line, table.rows)]
    title, note = markdown_text(table.title), markdown_text(table.note)
    return f"### {title}\n\n" + "\n".join(rows) + f"\n\n{note}\n"
