"""`cmgems genome`: build a genome store."""

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cmgems.errors import UserError
from cmgems.genome.genome import Genome, build_genome, open_genome
from cmgems.genome.store import read_manifest, verify_codes, verify_soft_mask
from cmgems.utils.escapes import printable
from cmgems.utils.text_table import text_table

if TYPE_CHECKING:
    from cmgems.genome.spans import Spans

DESCRIPTION = """\
Build a genome store: base codes on disk, one byte per base, memory-mapped when used.
Sources may be FASTA (plain, gzip, bgzip), 2bit, GenBank or EMBL; several make one genome.
"""
EXAMPLES = """\
examples:
  cmgems genome hg38.fa.gz --out stores/hg38
  cmgems genome chr20.fa chrX.fa --out stores/two
  cmgems genome hg38.fa --repeats rmsk.bed --out stores/hg38
  cmgems genome --check stores/hg38
"""
MAX_CONTIGS_SHOWN = 25


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument("sources", nargs="*", type=Path, metavar="SOURCE", help="sequence files")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the store to write")
    parser.add_argument("--repeats", default="", metavar="FILE",
        help="BED (or GTF:FEATURE, or a table) of what is soft-masked, in place of what is in "
        "lower case")  # fmt: skip
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads (default 2)")
    parser.add_argument("--check", type=Path, metavar="DIR", help="verify all checksums of a store")


def run(args: argparse.Namespace) -> None:
    if args.check:
        check(args.check)
        return
    if not args.sources or args.out is None:
        raise UserError("wanted SOURCE... --out DIR, or --check DIR (see --help)")
    if args.threads < 1:
        raise UserError(f"--threads: found {args.threads}, wanted 1 or more")
    start = time.perf_counter()
    repeats = partial(_repeats, source=args.repeats) if args.repeats else None
    genome = build_genome(args.sources, args.out, threads=args.threads, repeats=repeats)
    seconds = time.perf_counter() - start
    print(printable(describe(genome)))
    print(f"built in {seconds:.2f} s, {genome.bases / seconds / 1e6:,.0f} million bases per second")


def _repeats(genome: Genome, source: str) -> "Spans":
    """The intervals of a file in a genome; what is not in it is counted on standard error."""
    from cmgems.genome.annotation.regions import place_files

    placed = place_files(genome, [source], "--repeats")
    if notice := placed.describe():
        print(f"{source}: {notice}", file=sys.stderr)
    return placed.spans


def check(path: Path) -> None:
    genome = open_genome(path)
    manifest = read_manifest(path)
    verify_codes(path, manifest, genome.codes)
    verify_soft_mask(path, manifest)
    print(f"{path}: verified, {_count_contigs(genome)} as built")


def describe(genome: Genome) -> str:
    iupac = sum(contig.iupac_count for contig in genome.contigs)
    percent_n = 100 * genome.n_count / genome.bases
    shown = genome.contigs[:MAX_CONTIGS_SHOWN]
    lines = [
        f"{genome.path}: {genome.name}",
        f"  {_count_contigs(genome)}, {genome.bases:,} bases, {percent_n:.2f} % N"
        + (f" (of which {iupac:,} IUPAC codes)" if iupac else ""),
        *(() if genome.soft_masked is None else [f"  {_soft_masked(genome):.2f} % soft-masked"]),
        text_table([(c.name, f"{c.length:,}") for c in shown], "<>", indent="  "),
    ]
    if len(genome.contigs) > MAX_CONTIGS_SHOWN:
        lines.append(f"  … and {len(genome.contigs) - MAX_CONTIGS_SHOWN:,} more")
    return "\n".join([*lines, f"  sha256 {genome.sha256}"])


def _soft_masked(genome: Genome) -> float:
    """Percent of the known bases."""
    return 100 * (genome.soft_masked or 0) / max(genome.bases - genome.n_count, 1)


def _count_contigs(genome: Genome) -> str:
    number = len(genome.contigs)
    return "1 contig" if number == 1 else f"{number:,} contigs"
