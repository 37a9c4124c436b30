"""`cmgems score`: zero-shot scores of sequences and variants by a pretrained model."""

import argparse
import re
import sys
from pathlib import Path

from cmgems.errors import UserError
from cmgems.utils.outputs import check_output_file

DESCRIPTION = """\
Zero-shot scores by a pretrained model, as a tab-separated table.

The score of a sequence is its pseudo-log-likelihood: the sum over the bases of ln p(base | all
others), where each base is hidden by masking all tokens that cover it.

The score of a variant (an exchange, insertion or deletion of any number of bases) is the change of
that sum over the bases around it, alternative - reference, averaged over both strands; below 0, the
model finds the reference likelier. Each alternative has a row; what cannot be scored (symbolic
alleles, contigs that the genome has not, another reference base, lines that cannot be read) has the
reason in the column `why`, and a count at the end. With --labels, how well the scores tell labelled
variants apart: AUROC, AUPRC, and AUPRC by chromosome with a 95 % interval (TraitGym's protocol).

A motif's consensus is planted in windows of the genome that pretraining holds out, against the same
letters in another order: the fraction of pairs in which the consensus is the likelier, and the mean
difference of ln p over its bases.

MODEL is a run folder, a checkpoint in one, or a Hugging Face folder.
"""
EXAMPLES = """\
examples:
  cmgems score runs/quickstart --sequences promoters.fa --out likelihood.tsv
  cmgems score runs/quickstart --variants calls.vcf.gz --genome hg38.fa --out scores.tsv
  cmgems score runs/quickstart --variants snvs.vcf --genome hg38.fa --flank 0 --out scores.tsv
  cmgems score runs/quickstart --motifs JASPAR2024_CORE.txt --genome hg38.fa --out motifs.tsv
  cmgems score runs/quickstart --variants clinvar.vcf.gz --genome hg38.fa --labels PATHOGENIC
"""
DEFAULT_PAIRS = 100
DEFAULT_FLANK = 32  # bases; as `cmgems.inference.variants` has it, which loads torch


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("model", metavar="MODEL")
    add("--sequences", type=Path, metavar="FILE", help="FASTA, 2bit, GenBank or EMBL")
    add("--variants", type=Path, metavar="FILE",
        help="VCF, or a table with the columns chrom, pos, ref, alt; plain or gzip; BCF with the "
        "extra [variants]")  # fmt: skip
    add("--motifs", type=Path, metavar="FILE",
        help="matrices of JASPAR or MEME, lines of a name and a consensus, or `jaspar` (extra "
        "[motifs])")  # fmt: skip
    add("--pairs", type=int, default=DEFAULT_PAIRS, metavar="N",
        help=f"windows per motif (default {DEFAULT_PAIRS})")  # fmt: skip
    add("--genome", metavar="GENOME",
        help="genome of the variants, or of the windows of motifs: a store, a sequence "
        "file or `sample`")  # fmt: skip
    add("--window", type=int, default=0, metavar="BASES",
        help="bases of each allele that the model sees; default: as many as it has positions "
        "for")  # fmt: skip
    add("--flank", type=_flank, default=DEFAULT_FLANK, metavar="BASES",
        help="bases on each side of a variant whose likelihood is summed, or `all` of the window; "
        f"default {DEFAULT_FLANK}. The cost grows with it; 0: the variant's own bases")  # fmt: skip
    add("--strands", choices=("both", "forward"), default="both",
        help="mean over both strands (default), or the forward one alone")  # fmt: skip
    add("--labels", default="", metavar="NAME",
        help="column of a table, or key of a VCF's INFO, with 0 and 1 or a flag")  # fmt: skip
    add("--out", type=Path, metavar="FILE.tsv", help="file to write (default: print the table)")


def run(args: argparse.Namespace) -> None:
    if sum(file is not None for file in (args.sequences, args.variants, args.motifs)) != 1:
        raise UserError(
            "wanted --sequences FILE, or --variants FILE or --motifs FILE with --genome GENOME"
        )
    if args.variants is not None and not args.genome:
        raise UserError("--variants: wanted --genome GENOME, on which they were called")
    if args.motifs is not None and not args.genome:
        raise UserError("--motifs: wanted --genome GENOME, in whose DNA they are planted")
    if args.pairs < 2:
        raise UserError(f"--pairs: found {args.pairs}, wanted 2 or more")
    if args.window < 0:
        raise UserError(f"--window: found {args.window}, wanted 1 or more bases")
    if args.out:
        check_output_file(args.out, "--out")
    elif sys.__stdout__ is None:
        raise UserError("--out: found none, and standard output is closed; wanted --out FILE")
    if args.labels and args.variants is None:
        raise UserError("--labels: wanted --variants FILE, whose labels they are")

    # Heavy imports are in here: `--help` must answer at once.
    from cmgems.genome.cache import load_genome
    from cmgems.hub.pretrained import load_pretrained
    from cmgems.inference.footprints import footprint_lines
    from cmgems.inference.score_files import VariantTable, sequence_lines, write_lines
    from cmgems.inference.variants import ScoreOptions

    model = load_pretrained(args.model)
    model.require_head()
    if args.sequences:
        write_lines(sequence_lines(model, args.sequences), args.out)
        return
    if args.motifs:
        genome = load_genome(args.genome)
        lines = footprint_lines(model, args.motifs, genome, args.window, args.pairs)
        write_lines(lines, args.out)
        return
    options = ScoreOptions(args.window, args.flank, args.strands == "both")
    table = VariantTable(model, args.variants, args.genome, options, args.labels)
    write_lines(table.lines(), args.out)
    print(table.summary(), file=sys.stderr)


def _flank(text: str) -> int | None:
    """A number of bases; None for all of the window."""
    if text == "all":
        return None
    if not re.fullmatch("[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"found {text}, wanted 0 or more bases, or all")
    return int(text)
