"""`cmgems pmi`: the PMI of all k-mers of a genome; compare, plot and export such tables."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cmgems.difficulty.compare import format_comparison
from cmgems.difficulty.plots import write_plots
from cmgems.difficulty.pmi import check_settings, pmi_table_from_counts
from cmgems.difficulty.table import PmiTable
from cmgems.difficulty.table_io import decode_kmers, read_table, write_table
from cmgems.difficulty.track import write_track
from cmgems.errors import UserError
from cmgems.genome.cache import load_genome
from cmgems.genome.region import parse_region
from cmgems.utils.escapes import printable
from cmgems.utils.files import atomic_write
from cmgems.utils.outputs import check_output_file, check_output_folder
from cmgems.utils.text_table import text_table

if TYPE_CHECKING:
    from cmgems.difficulty.counts import KmerCounts

DESCRIPTION = """\
Count the k-mers of one or more genomes and compute their PMI, which ranks them for masking.

GENOME is a store, a sequence file, `sample` (4 Mb of human chromosome 20), or a file of counts
that --counts-out wrote; the counts of several are added up.
"""
EXAMPLES = """\
examples:
  cmgems pmi sample --k 6 --out sample.pmi.tsv --plots plots
  cmgems pmi hg38.fa.gz --definition published --both-strands --out hg38.pmi.tsv
  cmgems pmi human.counts mouse.fa --counts-out both.counts --out both.pmi.tsv
  cmgems pmi sample --compare hg38.pmi.tsv
  cmgems pmi hg38.fa.gz --places
  cmgems pmi --table hg38.pmi.tsv --compare mouse.pmi.tsv
  cmgems pmi stores/chr20 --track 20:44,000,001-44,100,000 --bin 50 --track-out difficulty.bedGraph
"""
NUM_SHOWN = 10  # k-mers


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("genomes", nargs="*", metavar="GENOME")
    add("--k", type=int, default=6, help="length of the k-mers, 2 to 12 (default 6)")
    add("--definition", default="exact",
        help="of the PMI: exact (default) or published, docs/pmi.md")  # fmt: skip
    add("--min-count", type=int, default=101, metavar="N",
        help="k-mers that occur less often have no score and rank last (default 101)")  # fmt: skip
    add("--both-strands", action="store_true", help="pool a k-mer and its reverse complement")
    add("--threads", type=int, metavar="N", help="threads that count (default: all cores)")
    add("--table", type=Path, metavar="FILE",
        help="use a table (TSV or CSV with a score or rank column) and compute none")  # fmt: skip
    add("--out", type=Path, metavar="TABLE.tsv", help="write the table")
    add("--counts-out", type=Path, metavar="FILE",
        help="write the counts, to add those of other genomes later")  # fmt: skip
    add("--compare", type=Path, metavar="OTHER.tsv", help="compare with another table")
    add("--plots", type=Path, metavar="DIR", help="write plots of the table (PNG)")
    add("--places", action="store_true",
        help="also say where the k-mers lie, by rank: in repeats, in CpG islands, among "
        "soft-masked bases")  # fmt: skip
    add("--track", metavar="REGION",
        help="write the difficulty along CONTIG or CONTIG:START-END as bedGraph")  # fmt: skip
    add("--track-out", type=Path, metavar="FILE", help="file of the track (default: print it)")
    add("--bin", type=int, default=1, metavar="BASES",
        help="bases per step of the track (default 1)")  # fmt: skip


def run(args: argparse.Namespace) -> None:
    _check_arguments(args)
    table = read_table(args.table) if args.table else _compute_table(args)
    prints_track = args.track and not args.track_out  # then nothing else is printed
    if not prints_track:
        print(printable(_summary(table)))
    _write_files(args, table)
    if args.places:
        _print_places(args, table)
    if args.compare:
        names = (str(args.table or table.genome_name), str(args.compare))
        print(format_comparison(table, read_table(args.compare, table.k), names))
    if args.track:
        _write_track(args, table)


def _check_arguments(args: argparse.Namespace) -> None:
    if not args.genomes and not args.table:
        raise UserError("wanted GENOME... or --table FILE (see --help)")
    for option in ("track", "places"):
        if getattr(args, option) and len(args.genomes) != 1:
            raise UserError(f"--{option}: found {len(args.genomes)} genomes, wanted one GENOME")
    if args.table and args.genomes and not (args.track or args.places):
        raise UserError("--table replaces GENOME; give one of them (both for --track and --places)")
    if args.places and args.track and not args.track_out:
        raise UserError("--places and --track: wanted --track-out FILE as well")
    if args.table and args.counts_out:
        raise UserError("--counts-out wants GENOME, not --table: a table holds one k only")
    if args.threads is not None and args.threads < 1:
        raise UserError(f"--threads: found {args.threads}, wanted 1 or more")
    if args.bin < 1:
        raise UserError(f"--bin: found {args.bin}, wanted 1 or more")
    if not args.table:
        check_settings(args.k, args.definition, args.min_count)
    for option in ("out", "counts_out", "track_out"):
        if (out := getattr(args, option)) is not None:
            check_output_file(out, f"--{option.replace('_', '-')}")
    if args.plots:
        check_output_folder(args.plots, "--plots")


def _compute_table(args: argparse.Namespace) -> PmiTable:
    # numba is heavy: `--help` must answer at once.
    from cmgems.difficulty.counts_io import write_counts

    counts = _count_genomes(args)
    if args.counts_out:
        write_counts(counts, args.counts_out)
    return pmi_table_from_counts(counts, args.definition, args.min_count)


def _count_genomes(args: argparse.Namespace) -> "KmerCounts":
    """The counts of all genomes, added up."""
    from cmgems.difficulty.genome_counts import count_source_kmers

    counts = [count_source_kmers(genome, args.k, threads=args.threads) for genome in args.genomes]
    if args.both_strands:
        counts = [genome_counts.pooled() for genome_counts in counts]
    total = counts[0]
    for genome, further in zip(args.genomes[1:], counts[1:], strict=True):
        if further.both_strands != total.both_strands:
            raise UserError(
                f"{genome}: {args.genomes[0]} and this genome are not both counted on both strands;"
                " give --both-strands"
            )
        total += further
    return total


def _summary(table: PmiTable) -> str:
    num_scored = int(np.sum(~np.isnan(table.npmi)))
    head = (
        f"{table.genome_name or 'table'}: {len(table.rank):,} {table.k}-mers, {table.definition},"
        f" {num_scored:,} with a score; first to be masked:\n"
    )
    first = np.flatnonzero(table.rank <= NUM_SHOWN)
    first = first[np.argsort(table.rank[first])]
    rows = [
        (
            f"{table.rank[i]}",
            kmer.decode(),
            f"NPMI {table.npmi[i]:.4f}",
            f"count {table.counts[i]:,}",
        )
        for i, kmer in zip(first, decode_kmers(first, table.k), strict=True)
    ]
    return head + text_table(rows, "><", indent="  ")


def _print_places(args: argparse.Namespace, table: PmiTable) -> None:
    # numba is heavy: `--help` must answer at once.
    from cmgems.difficulty.places import find_kmer_places, format_places

    places = find_kmer_places(load_genome(args.genomes[0]), table.k)
    print(f"\nwhere they lie:\n{format_places(table, places)}")


def _write_files(args: argparse.Namespace, table: PmiTable) -> None:
    if args.out:
        write_table(table, args.out)
        print(f"wrote {args.out}", file=sys.stderr)
    if args.plots:
        for path in write_plots(table, args.plots):
            print(f"wrote {path}", file=sys.stderr)


def _write_track(args: argparse.Namespace, table: PmiTable) -> None:
    genome = load_genome(args.genomes[0])
    region = parse_region(genome, args.track)
    if not args.track_out:
        write_track(genome, table, region, sys.stdout, args.bin)
        return
    with atomic_write(args.track_out) as handle:
        write_track(genome, table, region, handle, args.bin)
    print(f"wrote {args.track_out}", file=sys.stderr)
