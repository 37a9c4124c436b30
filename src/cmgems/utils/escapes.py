"""Names that come from files and command lines, made harmless for what they are written into.

HTML has its own in the standard library (`html.escape`).
"""

import re

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
MAX_LINE = 1_000  # characters of a message
SHOWN_END = 300  # of them, from the end, where a message says what is wanted


def printable(text: str) -> str:
    r"""Text whose control characters a terminal shows, as escapes, instead of obeying them.

    Line feeds stay, and tabs.

    >>> print(printable("a\x1b[2Jb\rc\u202ed"))
    a\x1b[2Jb\rc\u202ed
    """
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )


def message_line(text: str) -> str:
    """A message as it is printed: harmless, and without the middle of lines beyond reason."""
    lines = printable(text).split("\n")
    return "\n".join(
        line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - SHOWN_END]} … {line[-SHOWN_END:]}"
        for line in lines
    )


def markdown_text(text: str) -> str:
    r"""Text in a line of Markdown: no HTML, no link, no line of its own.

    >>> print(markdown_text("<b>a</b> [b](http://c)"))
    &lt;b>a&lt;/b> [b]\(http://c)
    """
    line = printable(text).replace("\n", " ").replace("\t", " ")
    return line.replace("&", "&amp;").replace("<", "&lt;").replace("](", "]\\(")


def markdown_cell(text: str) -> str:
    r"""A cell of a table in Markdown.

    >>> print(markdown_cell("a|b"))
    a\|b
    """
    return markdown_text(text.replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`"))


def table_field(field: object) -> str:
    r"""A field of a tab-separated table, without what would break its row or command a terminal.

    >>> print(table_field("a\tb"))
    a\tb
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(field))


def csv_cell(text: str) -> str:
    """A cell of a CSV file that a spreadsheet does not take for a formula.

    >>> csv_cell("=1+1"), csv_cell("cm_gems")
    ("'=1+1", 'cm_gems')
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def plot_text(text: str) -> str:
    r"""Text that matplotlib does not take for a formula.

    >>> print(plot_text("a$b$"))
    a\$b\$
    """
    return text.replace("$", r"\$")
