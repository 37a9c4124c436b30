"""The sequences that `predict` and `explain` take: their options, and the input they name."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cmgems.errors import UserError

if TYPE_CHECKING:
    from cmgems.evaluation.prediction.inputs import Input

CENTERS = ("middle", "start", "end")


def add_input_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("input", nargs="?", default="", metavar="INPUT")
    add("--genome", default="", metavar="GENOME",
        help="genome of intervals or of a region: a store, a file or `sample`")  # fmt: skip
    add("--region", default="", metavar="CONTIG:START-END",
        help="contig, or a part of it, that is read in steps; counted from 1")  # fmt: skip
    add("--window", type=int, default=0, metavar="BASES",
        help="bases of a window; default: those of the task of a classifier, if its definition "
        "says them, or else the intervals themselves")  # fmt: skip
    add("--center", choices=CENTERS, default="middle",
        help="what of an interval is in the middle of its window: its middle (default), or its "
        "first or last base on its strand")  # fmt: skip
    add("--step", type=int, default=0, metavar="BASES",
        help="from the start of a window to that of the next; default: a window")  # fmt: skip
    add("--strand", choices=("+", "-"), default="+",
        help="strand on which the windows of a region are read (default +)")  # fmt: skip


def check_input_options(args: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    if bool(args.input) == bool(args.region):
        found = "both" if args.input else "neither"
        raise UserError(f"found {found} of INPUT and --region, wanted one of them")
    if args.region and not args.genome:
        raise UserError("--region: wanted --genome GENOME as well")
    for option, least in (("window", args.window), ("step", args.step)):
        if least < 0:
            raise UserError(f"--{option}: found {least}, wanted 1 or more bases")
    if args.window and not args.genome:
        raise UserError("--window: belongs to --genome; sequences are read as they are")
    if not args.region and (args.step or args.strand == "-"):
        raise UserError("--step and --strand belong to --region")


def open_input(args: argparse.Namespace, window: int, min_bases: int) -> "Input":
    """The input that the options name.

    Parameters
    ----------
    window : bases; 0: the intervals themselves
    min_bases : of the shortest sequence that has a token
    """
    from cmgems.evaluation.prediction.inputs import interval_input, region_input, sequence_input
    from cmgems.genome.cache import load_genome
    from cmgems.genome.region import parse_region

    if not args.genome:
        return sequence_input(Path(args.input))
    genome = load_genome(args.genome)
    if args.input:
        return interval_input(genome, args.input, window, args.center)
    if window < min_bases:
        found = f"{window}" if window else "none, and the model has no task with a length"
        raise UserError(f"--window: found {found}, wanted {min_bases} or more bases")
    try:
        region = parse_region(genome, args.region)
    except UserError as error:
        raise UserError(f"--{error}") from error
    return region_input(genome, region, window, args.step or window, args.strand)
