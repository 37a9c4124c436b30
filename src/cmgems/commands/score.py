"""`cmgems score`: zero-shot scores of sequences and variants by a pretrained model."""

import argparse
import sys
from pathlib import Path

from cmgems.errors import UserError
from cmgems.utils.outputs import check_output_file

DESCRIPTION = """\
Zero-shot scores by a pretrained model, as a tab-separated table.

The score of a sequence is its pseudo-log-likelihood: the sum over the bases of ln p(base | all
others), where each base is hidden by masking all tokens that cover it. The score of a variant is
ln p(alternative) - ln p(reference) at its position; below 0, the reference is likelier.

MODEL is a run folder, a checkpoint in one, or a Hugging Face folder.
"""
EXAMPLES = """\
examples:
  cmgems score runs/quickstart --sequences promoters.fa --out likelihood.tsv
  cmgems score runs/quickstart --variants calls.vcf.gz --genome hg38.fa --out scores.tsv
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("model", metavar="MODEL")
    add("--sequences", type=Path, metavar="FILE", help="FASTA, 2bit, GenBank or EMBL")
    add("--variants", type=Path, metavar="FILE",
        help="VCF, or a table with the columns chrom, pos, ref, alt; plain or gzip")  # fmt: skip
    add(
        "--genome",
        metavar="GENOME",
        help="genome of the variants: a store, a sequence file or `sample`",
    )
    add("--window", type=int, default=0, metavar="BASES",
        help="bases around a variant; default: as many as the model has positions for")  # fmt: skip
    add("--out", type=Path, metavar="FILE.tsv", help="file to write (default: print the table)")


def run(args: argparse.Namespace) -> None:
    if (args.sequences is None) == (args.variants is None):
        raise UserError("wanted --sequences FILE, or --variants FILE with --genome GENOME")
    if args.variants is not None and not args.genome:
        raise UserError("--variants: wanted --genome GENOME, on which they were called")
    if args.window < 0:
        raise UserError(f"--window: found {args.window}, wanted 1 or more bases")
    if args.out:
        check_output_file(args.out, "--out")
    elif sys.__stdout__ is None:
        raise UserError("--out: found none, and standard output is closed; wanted --out FILE")

    # Heavy imports are in here: `--help` must answer at once.
    from cmgems.hub.pretrained import load_pretrained
    from cmgems.inference.score_files import sequence_lines, variant_lines, write_lines

    model = load_pretrained(args.model)
    if args.sequences:
        lines = sequence_lines(model, args.sequences)
    else:
        lines = variant_lines(model, args.variants, args.genome, args.window)
    write_lines(lines, args.out)
