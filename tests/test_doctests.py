"""The examples in docstrings and in docs/python.md do what they say.

Modules are imported by name: `pytest --doctest-modules` would import those of data_modules/ and
callbacks/ a second time, under the names of their folders.
"""

import doctest
import importlib
import re
from pathlib import Path

import pytest
from helpers.paths import EXPERIMENTS, ROOT

PAGE = ROOT / "docs/python.md"
PROMPT = re.compile(r"^ *>>> ", re.MULTILINE)
FOLDERS = {
    ROOT / "src/cmgems": "cmgems",
    ROOT / "data_modules": "cmgems.data_modules",
    ROOT / "callbacks": "cmgems.callbacks",
}


def modules_with_examples():
    """Names of modules, found without importing any: collecting tests stays fast."""
    for root, package in FOLDERS.items():
        for path in sorted(root.rglob("*.py")):
            if PROMPT.search(path.read_text()):
                parts = path.relative_to(root).with_suffix("").parts
                yield ".".join((package, *(part for part in parts if part != "__init__")))


def examples_of_page(text):
    """The text of the page with blank lines in place of all that is not in a block of Python."""
    is_code, lines = False, []
    for line in text.splitlines():
        is_fence = line.startswith("```")
        lines.append("" if is_fence or not is_code else line)
        is_code = line == "```pycon" if is_fence else is_code
    return "\n".join(lines) + "\n"


@pytest.fixture
def checkout(tmp_path, monkeypatch, pretrained_run):
    """A folder to work in with what the examples name: experiments/, and a run in runs/."""
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/cm_gems").symlink_to(pretrained_run)
    monkeypatch.chdir(tmp_path)


def run(test):
    failures = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=failures.append)
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_of_docstrings(name, checkout):
    module = importlib.import_module(name)
    tests = doctest.DocTestFinder().find(module)
    written = len(PROMPT.findall(Path(module.__file__).read_text()))
    assert sum(len(test.examples) for test in tests) == written  # none is hidden by a decorator
    for test in tests:
        run(test)


def test_page_on_python(checkout):
    text = PAGE.read_text()
    test = doctest.DocTestParser().get_doctest(examples_of_page(text), {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) == len(PROMPT.findall(text)) > 10
    run(test)
