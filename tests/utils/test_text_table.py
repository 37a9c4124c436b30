"""Tables as text and as HTML."""

from cmgems.utils.html import html_table
from cmgems.utils.text_table import text_table


def test_columns_are_aligned():
    rows = [("model", "score", "note"), ("a", "10.5", ""), ("long name", "7", "best", "further")]
    assert text_table(rows, "<><", indent="  ").split("\n") == [
        "  model      score  note",
        "  a           10.5",
        "  long name      7  best  further",
    ]
    assert text_table(rows[1:], ">") == "        a  10.5\nlong name     7  best  further"
    assert text_table([]) == ""


def test_cells_of_an_html_table_are_escaped():
    table = html_table(("a & b",), [("<script>",), ("x",)])
    assert "<tr><th>a &amp; b</th></tr>" in table
    assert "<tr><td>&lt;script&gt;</td></tr><tr><td>x</td></tr>" in table
