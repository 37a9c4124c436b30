"""Names of experiments come from files: they are text in each format that they are written to."""

import csv
import io
import re

import pytest
from helpers.compared_runs import write_run

from cmgems.cli import main
from cmgems.comparison.compare import compare
from cmgems.comparison.records import read_runs
from cmgems.comparison.write import as_terminal_text, write_comparison
from cmgems.utils.escapes import MAX_LINE, message_line

SCRIPT = "</script><script>alert(1)</script>"
FORMULA = '=HYPERLINK("http://x","y")'
LINK = "[a](javascript:alert(1))|`$x^{$"
ESCAPE = "red\x1b[31m\u202e"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A comparison of runs with such names, and the text of what is written of it, by file."""
    folder = tmp_path_factory.mktemp("hostile")
    names = ["random", SCRIPT, FORMULA, LINK, ESCAPE]
    for number, name in enumerate(names):
        strategy = (
            "random"
            if not number
            else ["genemask", "uniform", "global_pmi", "random_wide"][number - 1]
        )
        write_run(folder / f"run{number}", strategy, 0, 1.9, more=[f"name={name!r}"])
    for number, name in enumerate(names):
        (folder / f"run{number}").rename(folder / name.replace("/", "\u2215"))
    comparison = compare(read_runs([folder]))
    paths = write_comparison(comparison, folder / "out", SCRIPT)
    texts = {path.name: path.read_text() for path in paths if path.suffix != ".png"}
    return texts | {"terminal": as_terminal_text(comparison)}


def test_no_name_ends_a_script_or_begins_one(written):
    assert len(re.findall("<script", written["compare.html"])) == 1
    assert len(re.findall("</script", written["compare.html"])) == 1
    assert "<script" not in written["compare.md"]


def test_no_name_is_a_link(written):
    assert "](javascript" not in written["compare.md"]
    rows = [line for line in written["compare.md"].splitlines() if line.startswith("| [a]")]
    assert rows
    assert all(re.search(r"\\\|\\`", row) for row in rows)


def test_no_name_is_a_formula(written):
    rows = list(csv.reader(io.StringIO(written["runs.csv"])))
    labels = {row[0] for row in rows[1:]}
    assert any(label.startswith("'=HYPERLINK") for label in labels)
    assert not any(cell.startswith("=") for row in rows for cell in row)
    values = [float(row[5]) for row in rows[1:]]  # numbers stay numbers
    assert min(values) > 0


def test_no_name_reaches_the_terminal_raw(written):
    assert "\x1b" not in written["terminal"]
    assert "\u202e" not in written["terminal"]
    assert r"red\x1b[31m\u202e" in written["terminal"]


@pytest.mark.parametrize(
    "argument", ["\x1b[2J.yaml", "name=\x1b]0;title\x07", "train.max_steps=\x9b31m", "\udcff.yaml"]
)
def test_messages_show_control_characters(argument, capsys):
    arguments = ["experiments/none.yaml", argument] if "=" in argument else [argument]
    assert main(["pretrain", *arguments]) == 2
    text = capsys.readouterr().err
    assert text.isascii() or text.replace("\n", "").isprintable()
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\udc80-\udcff]", text)


def test_messages_are_shortened_in_the_middle():
    short = message_line(f"name: found {'x' * 5000}, wanted text")
    assert len(short) == MAX_LINE + 3
    assert short.startswith("name: found xxx")
    assert short.endswith("x, wanted text")
