"""The notebooks run: here as plain Python at shrunken sizes, by `make notebooks` as they are."""

import json
import re

import matplotlib
import pytest
from helpers.paths import ROOT

NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_run_one_after_another(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    from matplotlib import pyplot

    notebook = json.loads(path.read_text())
    names = {"__name__": "notebook"}
    for number, cell in enumerate(code_cells(notebook)):
        exec(compile("".join(cell["source"]), f"{path.name}, code cell {number}", "exec"), names)
        if "parameters" in cell["metadata"].get("tags", ()):
            small = notebook["metadata"]["cmgems"]["small"]
            assert small.keys() <= names.keys()  # each is one of the cell's
            names |= small
    assert names["figure"].axes  # each has a picture
    pyplot.close("all")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_there_and_name_no_machine(path):
    cells = code_cells(json.loads(path.read_text()))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert "error" not in {output["output_type"] for output in outputs}
    texts = [
        "".join(output.get("text", []) or output["data"].get("text/plain", []))
        for output in outputs
    ]
    assert [text for text in texts if re.search(r"(^|[\s'\"=])/\w|~/", text)] == []
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
