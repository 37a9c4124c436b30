"""Tables for a terminal."""

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]], align: str = "<", indent: str = "") -> str:
    """Rows of cells as text, in columns as wide as their widest cell, two spaces apart.

    Parameters
    ----------
    rows : lists of cells, which may differ in length
    align : `<` (left) or `>` (right) per column; the last one applies to all further columns
    indent : precedes each row

    >>> print(text_table([("model", "mcc", "f1"), ("one_hot", "7.3", "51.0")], "<>"))
    model    mcc    f1
    one_hot  7.3  51.0
    """
    columns = max(map(len, rows), default=0)
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(columns)]
    sides = align.ljust(columns, align[-1])
    lines = (
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=False)
        )
        for row in rows
    )
    return "\n".join((indent + line).rstrip() for line in lines)
