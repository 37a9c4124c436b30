"""`cmgems predict`: what a fine-tuned classifier says of sequences, intervals or a whole contig."""

import argparse
from pathlib import Path

from cmgems.commands.sequence_inputs import add_input_options, check_input_options, open_input
from cmgems.errors import UserError
from cmgems.utils.outputs import check_output_file

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
SUFFIXES = (".tsv", ".parquet", ".bedgraph", ".bg")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("classifier", type=Path, metavar="CLASSIFIER")
    add_input_options(parser)
    add("--out", type=Path, required=True, metavar="FILE",
        help="file to write: .tsv, .parquet or .bedGraph")  # fmt: skip
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
    source = open_input(args, window, loaded.tokenization.min_bases)
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
    check_input_options(args)
    if is_track and not args.region:
        raise UserError(f"--out: found {args.out}, but a track wants --region; others .tsv")
    if args.name and not is_track:
        raise UserError("--class: belongs to a track, --out FILE.bedGraph")
    return is_track
