"""`cmgems pmi`: the PMI of all k-mers of a genome, and what can be done with such a table."""

import argparse
import os
import sys
from pathlib import Path

from cmgems.utils.text_table import text_table

DESCRIPTION = """\
Count the k-mers of one or more genomes and compute their PMI, the difficulty that masking uses.

GENOME is a store, a sequence file, `sample` (4 Mb of human chromosome 20), or a file of counts
that --counts-out wrote; the counts of several are added up.
"""
EXAMPLES = """\
examples:
  cmgems pmi sample --k 6 --out sample.pmi.tsv --plots pictures
  cmgems pmi hg38.fa.gz --definition published --both-strands --out hg38.pmi.tsv
  cmgems pmi human.counts mouse.fa --counts-out both.counts --out both.pmi.tsv
  cmgems pmi sample --compare hg38.pmi.tsv
  cmgems pmi --table hg38.pmi.tsv --compare mouse.pmi.tsv
  cmgems pmi stores/chr20 --track 20:44,000,001-44,100,000 --bin 50 --track-out difficulty.bedGraph
"""
SHOWN = 10


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("genomes", nargs="*", metavar="GENOME")
    add("--k", type=int, default=6, help="length of the k-mers, 2 to 12 (default 6)")
    add("--definition", default="exact", help="exact (default) or published")
    add("--min-count", type=int, default=101, metavar="N",
        help="k-mers that occur less often have no score and rank last (default 101)")  # fmt: skip
    add("--both-strands", action="store_true", help="pool a k-mer and its reverse complement")
    add("--threads", type=int, metavar="N", help="threads that count (default: all cores)")
    add("--table", type=Path, metavar="FILE",
        help="use a table (TSV or CSV with a score or rank column), compute none")  # fmt: skip
    add("--out", type=Path, metavar="TABLE.tsv", help="write the table")
    add("--counts-out", type=Path, metavar="FILE", help="write the counts, to add others to later")
    add("--compare", type=Path, metavar="OTHER.tsv", help="compare with another table")
    add("--plots", type=Path, metavar="DIR", help="write pictures of the table (PNG)")
    add("--track", metavar="REGION",
        help="write the difficulty along CONTIG or CONTIG:START-END as bedGraph")  # fmt: skip
    add("--track-out", type=Path, metavar="FILE", help="file of the track (default: print it)")
    add("--bin", type=int, default=1, metavar="BASES", help="bases a step of the track (default 1)")


def run(args: argparse.Namespace) -> None:
    _check(args)
    table = _table(args)
    quiet = args.track and not args.track_out  # the track is what is printed
    if not quiet:
        print(_summary(table))
    _write(args, table)
    if args.compare:
        from cmgems.difficulty.compare import format_comparison
        from cmgems.difficulty.table_io import read_table

        names = (str(args.table or table.genome_name), str(args.compare))
        print(format_comparison(table, read_table(args.compare, table.k), names))
    if args.track:
        _track(args, table)


def _check(args: argparse.Namespace) -> None:
    from cmgems.difficulty.pmi import check_settings
    from cmgems.errors import UserError

    if not args.genomes and not args.table:
        raise UserError("wanted: GENOME... or --table FILE (see --help)")
    if args.track and len(args.genomes) != 1:
        raise UserError(f"--track wants one GENOME, found {len(args.genomes)}")
    if args.table and args.genomes and not args.track:
        raise UserError("--table takes the place of GENOME; give one of them (both for --track)")
    if args.table and args.counts_out:
        raise UserError("--counts-out wants GENOME, not --table: a table holds one k only")
    if args.threads is not None and args.threads < 1:
        raise UserError(f"--threads is {args.threads}; wanted: 1 or more")
    if args.bin < 1:
        raise UserError(f"--bin is {args.bin}; wanted: 1 or more")
    if not args.table:
        check_settings(args.k, args.definition, args.min_count)
    for out in (args.out, args.counts_out, args.track_out):
        if out and (out.is_dir() or not os.access(out.absolute().parent, os.W_OK)):
            raise UserError(f"{out}: cannot be written; wanted: a file in a folder that is there")


def _table(args: argparse.Namespace):
    from cmgems.difficulty.pmi import pmi_table_from_counts
    from cmgems.difficulty.table_io import read_table
    from cmgems.errors import UserError

    if args.table:
        return read_table(args.table)
    from cmgems.difficulty.counts_io import write_counts
    from cmgems.difficulty.genome_counts import count_source_kmers

    counts = [count_source_kmers(genome, args.k, threads=args.threads) for genome in args.genomes]
    if args.both_strands:
        counts = [c.pooled() for c in counts]
    total = counts[0]
    for genome, further in zip(args.genomes[1:], counts[1:], strict=True):
        if further.both_strands != total.both_strands:
            raise UserError(
                f"{genome}: one of {args.genomes[0]} and this is counted on both strands, the"
                " other is not; give --both-strands"
            )
        total += further
    if args.counts_out:
        write_counts(total, args.counts_out)
    return pmi_table_from_counts(total, args.definition, args.min_count)


def _summary(table) -> str:
    import numpy as np

    from cmgems.difficulty.table_io import decode_kmers

    scored = int(np.sum(~np.isnan(table.npmi)))
    head = (
        f"{table.genome_name or 'table'}: {len(table.rank):,} {table.k}-mers, {table.definition},"
        f" {scored:,} with a score; first to be masked:\n"
    )
    first = np.flatnonzero(table.rank <= SHOWN)
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


def _write(args: argparse.Namespace, table) -> None:
    if args.out:
        from cmgems.difficulty.table_io import write_table

        write_table(table, args.out)
        print(f"wrote {args.out}", file=sys.stderr)
    if args.plots:
        from cmgems.difficulty.plots import write_plots

        for path in write_plots(table, args.plots):
            print(f"wrote {path}", file=sys.stderr)


def _track(args: argparse.Namespace, table) -> None:
    from cmgems.difficulty.track import write_track
    from cmgems.genome.cache import load_genome
    from cmgems.genome.region import parse_region
    from cmgems.utils.files import atomic_write

    genome = load_genome(args.genomes[0])
    region = parse_region(genome, args.track)
    if not args.track_out:
        write_track(genome, table, region, sys.stdout, args.bin)
        return
    with atomic_write(args.track_out) as handle:
        write_track(genome, table, region, handle, args.bin)
    print(f"wrote {args.track_out}", file=sys.stderr)
