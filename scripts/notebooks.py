"""Run the notebooks of docs/notebooks as Jupyter does, in an empty folder (`make notebooks`).

With `--write` what they show replaces what is stored in them: printed text, values and pictures,
without warnings (which name paths of the machine) and times.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "docs/notebooks").glob("*.ipynb"))


def clean(notebook: Any) -> Any:
    """A notebook without what differs from machine to machine."""
    notebook["metadata"].pop("widgets", None)
    notebook["metadata"]["language_info"] = {"name": "python"}
    for cell in notebook["cells"]:
        cell["metadata"].pop("execution", None)
        if cell["cell_type"] != "code":
            continue
        outputs: list[Any] = []
        for output in cell["outputs"]:
            is_text = output["output_type"] == "stream"
            if is_text and output["name"] == "stderr":
                continue
            if is_text and outputs and outputs[-1]["output_type"] == "stream":
                outputs[-1]["text"] += output["text"]
            else:
                outputs.append(output)
        cell["outputs"] = outputs
    return notebook


def main() -> None:
    for path in NOTEBOOKS:
        print(path.name, flush=True)
        notebook = nbformat.read(path, as_version=4)
        with TemporaryDirectory() as folder:
            where = {"metadata": {"path": folder}}
            client = NotebookClient(notebook, timeout=None, resources=where)
            client.execute()  # raises what a cell raises
        if "--write" in sys.argv[1:]:
            nbformat.write(clean(notebook), path)


if __name__ == "__main__":
    main()
