"""`cmgems predict`: what a fine-tuned classifier says of sequences, intervals or a whole contig."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cmgems.errors import UserError
from cmgems.utils.outputs import check_output_file

if TYPE_CHECKING:
    from cmgems.evaluation.finetuning.classifier import LoadedClassifier
    from cmgems.evaluation.prediction.inputs import Input

DESCRIPTION = """\
Predict with a classifier that `cmgems evaluate ... protocol=full save_classifiers=true` saved:
probabilities of its classes, or the value of a regression.

CLASSIFIER is a folder below classifiers/ of the evaluation. INPUT is one of
  sequences      FASTA (plain, gzip, bgzip), 2bit, GenBank or EMBL
  a table        with a column `sequence` and perhaps `name`; tab- or comma-separated
  intervals      BED, GTF:FEATURE or a table, with --genome; each on its strand
or there is --genome GENOME --region CONTIG in place of it: all windows of a contig or of a part of
it, in steps. A sequence with more tokens than the model has positions is cut to its middle, and a
classifier that was trained on both strands predicts the mean of both, as in the evaluation.

FILE ends with .tsv, .parquet (needs pyarrow) or, with --region, .bedGraph: the track of one class.
A table has a row for each sequence, interval or window, in the order of the input: its name or
coordinates (from 0), `p_CLASS` for each class or `value`, and `why`, the reason where there is no
prediction.
"""
EXAMPLES = """\
examples:
  cmgems predict evaluations/mine/classifiers/prom-a-0 promoters.fa --out promoters.tsv
  cmgems predict CLASSIFIER peaks.bed --genome hg38.fa --window 200 --out peaks.parquet
  cmgems predict CLASSIFIER --genome hg38.fa --region chr20:1-2,000,000 --window 200 --step 50 \\
      --class promoter --out promoters.bedGraph
"""
CENTERS = ("middle", "start", "end")
SUFFIXES = (".tsv", ".parquet", ".bedgraph", ".bg")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("classifier", type=Path, metavar="CLASSIFIER")
    add("input", nargs="?", default="", metavar="INPUT")
    add("--out", type=Path, required=True, metavar="FILE",
        help="file to write: .tsv, .parquet or .bedGraph")  # fmt: skip
    add("--genome", default="", metavar="GENOME",
        help="genome of intervals or of a region: a store, a file or `sample`")  # fmt: skip
    add("--region", default="", metavar="CONTIG:START-END",
        help="contig, or a part of it, that is predicted in steps; counted from 1")  # fmt: skip
    add("--window", type=int, default=0, metavar="BASES",
        help="bases of a window; default: those of the task, if its definition says them, or else "
        "the intervals themselves")  # fmt: skip
    add("--center", choices=CENTERS, default="middle",
        help="what of an interval is in the middle of its window: its middle (default), or its "
        "first or last base on its strand")  # fmt: skip
    add("--step", type=int, default=0, metavar="BASES",
        help="from the start of a window to that of the next; default: a window")  # fmt: skip
    add("--strand", choices=("+", "-"), default="+",
        help="strand on which the windows of a region are read (default +)")  # fmt: skip
    add("--class", dest="name", default="", metavar="CLASS",
        help="class of a track; default: the second of two")  # fmt: skip
    add("--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="a CUDA GPU where there is one (default)")  # fmt: skip


def run(args: argparse.Namespace) -> None:
    is_track = _check(args)
    check_output_file(args.out, "--out")

    # Heavy imports are in here: `--help` must answer at once.
    from cmgems.cost.device import choose_device
    from cmgems.evaluation.finetuning.classifier import load_classifier
    from cmgems.evaluation.prediction.predictor import Predictor
    from cmgems.evaluation.prediction.write import table_writer, track_writer, write_predictions

    loaded = load_classifier(args.classifier)
    try:
        predictor = Predictor(loaded, choose_device(args.device, "--device").type)
    except UserError as error:
        raise UserError(f"{args.classifier}: {error}") from error
    window = args.window or loaded.description.get("length", 0)
    source = _source(args, loaded, window)
    if is_track:
        write = track_writer(predictor, args.name, args.step or window)
    else:
        write = table_writer(predictor, source, args.out.suffix)
    print(write_predictions(predictor, source, args.out, write))


def _check(args: argparse.Namespace) -> bool:
    """Refuse options that do not go together; whether a track is to be written."""
    if args.out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out: found {args.out}, wanted a name with .tsv, .parquet or .bedGraph")
    is_track = args.out.suffix.lower() in SUFFIXES[2:]
    if bool(args.input) == bool(args.region):
        found = "both" if args.input else "neither"
        raise UserError(f"found {found} of INPUT and --region, wanted one of them")
    if args.region and not args.genome:
        raise UserError("--region: wanted --genome GENOME as well")
    for option, least in (("window", args.window), ("step", args.step)):
        if least < 0:
            raise UserError(f"--{option}: found {least}, wanted 1 or more bases")
    if args.window and not args.genome:
        raise UserError("--window: belongs to --genome; sequences are predicted as they are")
    if not args.region and (args.step or args.strand == "-"):
        raise UserError("--step and --strand belong to --region")
    if is_track and not args.region:
        raise UserError(f"--out: found {args.out}, but a track wants --region; others .tsv")
    if args.name and not is_track:
        raise UserError("--class: belongs to a track, --out FILE.bedGraph")
    return is_track


def _source(args: argparse.Namespace, loaded: "LoadedClassifier", window: int) -> "Input":
    from cmgems.evaluation.prediction.inputs import interval_input, region_input, sequence_input
    from cmgems.genome.cache import load_genome
    from cmgems.genome.region import parse_region

    if not args.genome:
        return sequence_input(Path(args.input))
    genome = load_genome(args.genome)
    if args.input:
        return interval_input(genome, args.input, window, args.center)
    least = loaded.tokenization.min_bases
    if window < least:
        found = f"{window}" if window else "none, and the classifier's task has no length"
        raise UserError(f"--window: found {found}, wanted {least} or more bases")
    try:
        region = parse_region(genome, args.region)
    except UserError as error:
        raise UserError(f"--{error}") from error
    return region_input(genome, region, window, args.step or window, args.strand)
