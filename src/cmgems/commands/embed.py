"""`cmgems embed`: embeddings of sequences."""

import argparse
from pathlib import Path

from cmgems.errors import UserError
from cmgems.utils.outputs import check_output_file

DESCRIPTION = """\
Embed each sequence of a file with a pretrained model.

MODEL is a run folder, a checkpoint in one, or a Hugging Face folder. SEQUENCES is FASTA (plain,
gzip, bgzip), 2bit, GenBank or EMBL. A sequence longer than the model's positions is covered by
windows, over which pooled vectors are averaged.

FILE ends with .tsv (name, then the numbers) or with .npz: arrays `names` and `vectors` [N, D]; with
--pool tokens an array [tokens, D] per sequence, under `0`, `1`, ... in the order of `names`. The
vectors of several layers stand one after the other, with mean_max the mean of each in front of its
maximum.
"""
EXAMPLES = """\
examples:
  cmgems embed runs/quickstart promoters.fa --out promoters.npz
  cmgems embed runs/quickstart promoters.fa --pool mean_max --layers all --out promoters.tsv
  cmgems embed dnabert-6 promoters.fa.gz --pool tokens --out tokens.npz
"""
POOLS = ("mean", "cls", "max", "mean_max", "middle", "tokens")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("model", metavar="MODEL")
    add("sequences", type=Path, metavar="SEQUENCES")
    add("--out", type=Path, required=True, metavar="FILE", help="file to write, .npz or .tsv")
    add("--pool", choices=POOLS, default="mean",
        help="mean (default) or max over tokens, both, [CLS], or every token's state")  # fmt: skip
    add("--layers", type=_layers, default=(-1,), metavar="N,...",
        help="hidden states of these layers; 0: the input embeddings, -1 (default): the last, "
        "all: every layer")  # fmt: skip


def _layers(text: str) -> tuple[int, ...]:
    """Numbers between commas, or `all`."""
    if text == "all":
        return ()
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"found {text}, wanted numbers as 0,-1, or all") from error


def run(args: argparse.Namespace) -> None:
    if args.out.suffix not in (".npz", ".tsv"):
        raise UserError(f"--out: found {args.out}, wanted a name that ends with .npz or .tsv")
    if args.pool == "tokens" and args.out.suffix == ".tsv":
        raise UserError("--pool tokens: found a .tsv, wanted --out FILE.npz")
    check_output_file(args.out, "--out")

    # Heavy imports are in here: `--help` must answer at once.
    from cmgems.hub.pretrained import load_pretrained
    from cmgems.inference.embed_file import embed_file

    model = load_pretrained(args.model)
    count = embed_file(model, args.sequences, args.out, args.pool, args.layers)
    print(f"wrote {args.out}: {count:,} sequences")
