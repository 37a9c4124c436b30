"""`cmgems score`: what a pretrained model says of sequences and variants, without training."""

import argparse
from pathlib import Path

DESCRIPTION = """\
Zero-shot scores of a pretrained model, as a table (tab-separated).

Of sequences: the pseudo-log-likelihood, the sum over the bases of ln p(base | all others), each
base hidden by masking all tokens over it. Of variants: ln p(alternative) - ln p(reference) at
their place; below 0, the model finds the reference likelier.

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
    add("--genome", metavar="GENOME", help="of the variants: a store, a sequence file or `sample`")
    add("--window", type=int, default=0, metavar="BASES",
        help="around a variant; default: as many as the model has positions for")  # fmt: skip
    add("--out", type=Path, metavar="FILE.tsv", help="default: print it")


def run(args: argparse.Namespace) -> None:
    from cmgems.errors import UserError

    if (args.sequences is None) == (args.variants is None):
        raise UserError("wanted: --sequences FILE, or --variants FILE with --genome GENOME")
    if args.variants is not None and not args.genome:
        raise UserError("--variants: wanted --genome GENOME, on which they were called")
    if args.window < 0:
        raise UserError(f"--window: found {args.window}, wanted 1 or more bases")
    if args.out and not args.out.absolute().parent.is_dir():
        raise UserError(f"--out: {args.out.parent} is no folder, wanted one that is there")

    from cmgems.hub.pretrained import load_pretrained
    from cmgems.inference.score_files import sequence_lines, variant_lines, write_lines

    model = load_pretrained(args.model)
    if args.sequences:
        lines = sequence_lines(model, args.sequences)
    else:
        lines = variant_lines(model, args.variants, args.genome, args.window)
    write_lines(lines, args.out)
