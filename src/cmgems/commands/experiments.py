"""`cmgems experiments`: the experiment files that come with the package."""

import argparse
import re
import textwrap
from pathlib import Path

import yaml

from cmgems.config.shipped import shipped_experiments
from cmgems.errors import UserError
from cmgems.utils.files import atomic_write
from cmgems.utils.text_table import text_table

WIDTH = 90  # characters of a description in the list
DESCRIPTION = """\
List, show and copy the experiment files that come with the package. Where a command takes an
EXPERIMENT.yaml, a name from the list does too: `cmgems pretrain quickstart`.
"""
EXAMPLES = """\
examples:
  cmgems experiments list
  cmgems experiments show pretrain/cm_gems
  cmgems experiments copy pretrain/cm_gems mine
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES
    actions = parser.add_subparsers(dest="action", required=True, metavar="list | show | copy")
    actions.add_parser("list", help="names, and what each is for")
    show = actions.add_parser("show", help="print one")
    show.add_argument("name", metavar="NAME")
    copy = actions.add_parser("copy", help="copy one, with the files that it extends, to edit")
    copy.add_argument("name", metavar="NAME")
    copy.add_argument("folder", metavar="FOLDER", nargs="?", default=".", help="default: here")


def run(args: argparse.Namespace) -> None:
    if args.action == "list":
        rows = [(name, _first_sentence(path)) for name, path in shipped_experiments().items()]
        print(text_table([("experiment", "what it is"), *rows]))
    elif args.action == "show":
        print(_find(args.name).read_text(encoding="utf-8"), end="")
    else:
        for path in copy_experiment(_find(args.name), Path(args.folder)):
            print(path)


def copy_experiment(source: Path, folder: Path) -> list[Path]:
    """Copy a file, and those that it needs, into KIND folders of `folder` as in the package.

    Returns
    -------
    list of Path
        The copies, that of `source` first.

    Raises
    ------
    UserError
        If a copy would replace a file.
    """
    copies = {folder / path.parent.name / path.name: path for path in _with_needed(source)}
    for copy in copies:
        if copy.exists():
            raise UserError(f"{copy}: is there already, wanted another folder")
    for copy, path in copies.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(copy) as file:
            file.write(path.read_text(encoding="utf-8"))
    return list(copies)


def _with_needed(source: Path) -> list[Path]:
    """A file, the one that it extends or starts from, and so on."""
    content = yaml.safe_load(source.read_text(encoding="utf-8"))
    needed = [source.parent / content[key] for key in ("extends", "base") if key in content]
    return [source, *(path for file in needed for path in _with_needed(file.resolve()))]


def _find(name: str) -> Path:
    shipped = shipped_experiments()
    matches = [path for key, path in shipped.items() if name in (key, key.partition("/")[2])]
    if len(matches) == 1:
        return matches[0]
    same = [key for key in shipped if key.partition("/")[2] == name]
    wanted = f"one of {', '.join(same)}" if same else "a name that `cmgems experiments list` shows"
    raise UserError(f"{name}: found {len(same)} experiments of that name, wanted {wanted}")


def _first_sentence(path: Path) -> str:
    """The first sentence of the comment that every file begins with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    comment = " ".join(line.removeprefix("#").strip() for line in lines[:end])
    sentence = re.split(r"(?<=[.?]) ", comment)[0].removesuffix(".")
    return textwrap.shorten(sentence, WIDTH, placeholder=" ...")
