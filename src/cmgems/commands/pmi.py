"""`cmgems pmi`: the PMI of all k-mers of a genome."""

import argparse
from pathlib import Path

DESCRIPTION = """\
Count the k-mers of a genome and compute their PMI, the difficulty that masking uses.
GENOME is a store, a sequence file, or `sample` (4 Mb of human chromosome 20).
"""
EXAMPLES = """\
examples:
  cmgems pmi sample --k 6 --out sample.pmi.tsv
  cmgems pmi stores/hg38 --definition published --out hg38.pmi.tsv
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument("genome", metavar="GENOME")
    parser.add_argument(
        "--k", type=int, default=6, help="length of the k-mers, 2 to 12 (default 6)"
    )
    parser.add_argument("--definition", default="exact", help="exact (default) or published")
    parser.add_argument("--min-count", type=int, default=101, metavar="N",
                        help="rarer k-mers get no score and rank last (default 101)")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="TABLE.tsv", help="file of the table")


def run(args: argparse.Namespace) -> None:
    from cmgems.genome import genome_for
    from cmgems.pmi import table_for, write_table

    table = table_for(genome_for(args.genome), args.k, args.definition, args.min_count)
    if args.out:
        write_table(table, args.out)
        print(f"{args.out}: {4**args.k:,} {args.k}-mers of {table.genome_name}")
