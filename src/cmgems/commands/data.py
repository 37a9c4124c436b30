"""`cmgems data`: public genomes and tasks by name."""

import argparse
from pathlib import Path

from cmgems.downloads.fetch import data_folder, fetch, is_fetched, local_path
from cmgems.downloads.http import describe_size
from cmgems.downloads.registry import Dataset, datasets, find_dataset
from cmgems.errors import UserError
from cmgems.utils.text_table import text_table

DESCRIPTION = """\
Fetch public genomes and tasks by name, once, into the cache. A genome's name is also a value of
data.genome, which fetches it where it is not here yet.
"""
EXAMPLES = """\
examples:
  cmgems data list
  cmgems data get hg38/chr20
  cmgems pretrain cm_gems data.genome=hg38/chr20 run.dir=runs/chr20
  cmgems evaluate few_shot models=runs/chr20 tasks.root=$(cmgems data path fewshot)
  cmgems data get hg38 --from /media/usb

A cut download goes on where it was cut. CMGEMS_MIRROR=http://HOST/FOLDER is asked before the
publisher; any copy of the folder that `cmgems data list` names can be served as one.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES
    actions = parser.add_subparsers(dest="action", required=True, metavar="list | get | path")
    actions.add_parser("list", help="names, sizes, and what is here")
    get = actions.add_parser("get", help="fetch what a name stands for")
    get.add_argument("name", metavar="NAME")
    get.add_argument(
        "--from", dest="folder", type=Path, metavar="FOLDER", help="take the files from a folder"
    )
    path = actions.add_parser("path", help="print the file of a genome, the root folder of tasks")
    path.add_argument("name", metavar="NAME")


def run(args: argparse.Namespace) -> None:
    if args.action == "list":
        rows = [row for dataset in datasets().values() for row in _rows(dataset)]
        print(text_table([("name", "size", "here", "compared with", "what it is"), *rows]))
        print(f"\nKept in {data_folder()}.")
    elif args.action == "get":
        if args.folder is not None and not args.folder.is_dir():
            raise UserError(f"--from: {args.folder} is not a folder, wanted one with the files")
        print(fetch(args.name, args.folder))
    else:
        dataset = find_dataset(args.name)
        if not is_fetched(dataset):
            raise UserError(
                f"{args.name}: is not here, wanted `cmgems data get {args.name}` before"
            )
        print(local_path(dataset))


def _rows(dataset: Dataset) -> list[tuple[str, ...]]:
    """A line of the list, and one more for contigs that are published one by one."""
    size = describe_size(dataset.size) if dataset.size is not None else "-"
    here = "yes" if is_fetched(dataset) else "-"
    rows: list[tuple[str, ...]] = [
        (dataset.name, size, here, compared_with(dataset), dataset.about)
    ]
    if dataset.contigs:
        here = ", ".join(c for c in dataset.contigs if is_fetched(dataset.contig(c)))
        first, last = dataset.contigs[0], dataset.contigs[-1]
        name = f"{dataset.name}/CONTIG"
        rows.append((name, "-", here or "-", "publisher's md5", f"one contig, {first} to {last}"))
    return rows


def compared_with(dataset: Dataset) -> str:
    """What the files are compared with."""
    kinds = {file.checksum[0] if file.checksum else "" for file in dataset.files}
    if "" not in kinds:
        return " and ".join(sorted(kinds))
    return "publisher's md5" if all(file.checksums_url for file in dataset.files) else "none known"
