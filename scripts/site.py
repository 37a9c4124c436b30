"""Pages of the site (`make docs`) that do not lie in docs/ as Markdown, as hooks of mkdocs.

README.md and its neighbours become pages; the references of commands, keys and functions are
written from the code, so that they cannot disagree with it. Notebooks become pages, with what they
show. Paths of pages in text become links.
"""

import argparse
import base64
import json
import posixpath
import re
from dataclasses import Field
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import cmgems
from cmgems.cli import COMMANDS, build_parser
from cmgems.commands import format_default
from cmgems.config.options import accepted_type, get_value, iter_keys, spell
from cmgems.config.schema import Experiment
from cmgems.evaluation.config import Evaluation
from cmgems.sweeps.config import Sweep

ROOT = Path(__file__).parent.parent
# file at the top of the repository -> page
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
# what reads the file -> (its keys, where they are explained)
SCHEMAS = {
    "an experiment": (Experiment, "`cmgems pretrain`, [masking and curricula](../masking.md)"),
    "an evaluation": (Evaluation, "`cmgems evaluate`, [evaluation](../evaluation.md)"),
    "a sweep": (Sweep, "`cmgems sweep`, [sweeps](../sweeps.md)"),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from other files and from the code."""
    pages = {page: from_repository(name) for name, page in PAGES.items()}
    pages["reference/commands.md"] = commands_page()
    pages["reference/keys.md"] = keys_page()
    pages["reference/python.md"] = python_page()
    for path in sorted((ROOT / "docs/notebooks").glob("*.ipynb")):
        pages[f"notebooks/{path.stem}.md"], pictures = notebook_page(path)
        for name, picture in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=picture))
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """The cells of a notebook as Markdown, and the pictures in it by file name."""
    parts, pictures = [], {}
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if picture := data.get("image/png"):
                name = f"{path.stem}_{len(pictures)}.png"
                pictures[name] = base64.b64decode(picture)
                parts.append(f"![what the cell above shows]({name})")
            elif text := "".join(output.get("text") or data.get("text/plain", [])).strip("\n"):
                parts.append(f"```text\n{text}\n```")
    return "\n\n".join(parts) + "\n", pictures


def from_repository(name: str) -> str:
    """A file at the top of the repository, with its links as they are from docs/."""
    text = (ROOT / name).read_text()
    text = re.sub(r"\]\(docs/", "](", text)
    for other, page in PAGES.items():
        text = text.replace(f"]({other})", f"]({page})")
    return text


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let `docs/masking.md` in the text, which is how pages name one another, be a link."""
    pages = {file.src_uri for file in files.documentation_pages()}
    folder = posixpath.dirname(page.file.src_uri)

    def link(match: re.Match[str]) -> str:
        if (name := match[1]) not in pages:
            return match[0]
        return f"[{name.removesuffix('.md')}]({posixpath.relpath(name, folder or '.')})"

    markdown = re.sub(r"\]\(((?:\.\./)?(?:notebooks/)?\w+)\.ipynb\)", r"](\1.md)", markdown)
    return re.sub(r"(?<!\[)`docs/([\w./-]+\.md)`", link, markdown)


def commands_page() -> str:
    """The help of every command."""
    parts = ["# Commands\n", f"```text\n{help_text(None)}```\n"]
    parts += [f"## cmgems {name}\n\n```text\n{help_text(name)}```\n" for name in COMMANDS]
    return "\n".join(parts)


def help_text(command: str | None) -> str:
    """What `cmgems [COMMAND] --help` prints, without its list of keys, which have a page."""
    parser = build_parser(command)
    if command is not None:
        (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        parser = commands.choices[command]
    text = re.split(r"\nkeys(?: of a sweep)?:\n", parser.format_help())[0]
    return text.rstrip() + "\n"


def keys_page() -> str:
    """Tables of all keys of config files, from the dataclasses that they are read into."""
    parts = [
        "# Keys\n",
        "Each is set in a YAML file, or on the command line as `key=value`, which wins.\n",
    ]
    for title, (schema, where) in SCHEMAS.items():
        parts.append(f"## Keys of {title}\n\nRead by {where}.\n")
        defaults, section = schema(), None
        for name, field in iter_keys(schema):
            if (found := name.rpartition(".")[0]) != section:
                section = found
                heading = f"\n### `{section}`\n\n" if section else ""
                parts.append(f"{heading}| key | default | what it is |\n| --- | --- | --- |")
            default = format_default(get_value(defaults, name))
            parts.append(f"| `{name}` | `{default}` | {describe(field)} |")
        parts.append("")
    return "\n".join(parts)


def describe(field: Field[Any]) -> str:
    """A key's meaning, type and range, as a cell of a table."""
    notes = field.metadata
    text = notes["text"].replace("|", r"\|").replace("<", "&lt;")
    if notes["choices"]:
        return f"{text}: `{spell(notes['choices'], '`, `')}`"
    kind, optional = accepted_type(field)
    limits = [f"from {notes['low']:,}"] if notes["low"] is not None else []
    limits += [f"to {notes['high']:,}"] if notes["high"] is not None else []
    words = [getattr(kind, "__name__", str(kind)), *limits, *(["or null"] if optional else [])]
    return f"{text} *({' '.join(words)})*"


def python_page() -> str:
    """The functions of `import cmgems` and their classes, for mkdocstrings to fill."""
    names = [name for name in cmgems.__all__ if name != "__version__"]
    shown = "What `import cmgems` offers; [from Python](../python.md) shows it at work.\n"
    parts = ["# Python\n", shown]
    names.sort(key=lambda name: (name[0].isupper(), name))
    parts += [f"::: {getattr(cmgems, name).__module__}.{name}\n" for name in names]
    return "\n".join(parts)
