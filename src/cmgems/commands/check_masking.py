"""`cmgems check-masking`: does a strategy keep to the rules?"""

import argparse
from typing import TYPE_CHECKING

from cmgems.utils.text_table import text_table

if TYPE_CHECKING:  # torch: seconds, which `--help` need not wait for
    from torch import Tensor

    from cmgems.tokenization import Tokenization

WINDOWS, WINDOW = 1024, 510

DESCRIPTION = """\
Try a masking strategy on windows of a genome: its masks must be of the right shape, never touch
special tokens, repeat themselves, belong to the sequence and not to batch, padding or place, and
meet the budget of 15 % at every length.
"""
EXAMPLES = """\
examples:
  cmgems check-masking my_masks:pairs              # function or class in ./my_masks.py
  cmgems check-masking soft_pmi --genome chr20.fa
  cmgems check-masking soft_pmi --tokenization bases
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES
    parser.add_argument("strategy", metavar="STRATEGY", help="package.module:Name, or a name")
    parser.add_argument("--genome", default="sample", help="default: the sample")
    parser.add_argument(
        "--tokenization", default="kmers", choices=("kmers", "bases"), help="default: kmers"
    )
    parser.add_argument("--k", type=int, default=6, choices=(3, 4, 5, 6), help="default: 6")


def run(args: argparse.Namespace) -> None:
    from cmgems.config.schema import Data
    from cmgems.errors import UserError
    from cmgems.masking.checks import check_strategy
    from cmgems.tokenization import build_tokenization

    tokenization = build_tokenization(Data(tokenization=args.tokenization, k=args.k))
    corpus_BK, rank_V = corpus(args.genome, tokenization)
    checks = check_strategy(args.strategy, corpus_BK, rank_V, tokenization)
    print(text_table([("FAIL" if c.problem else "ok  ", c.name, c.found) for c in checks]))
    failed = [check for check in checks if check.problem]
    if failed:
        first = failed[0]
        raise UserError(
            f"{args.strategy}: {len(failed)} of {len(checks)} checks failed, first: {first.name}: "
            f"{first.problem}"
        )


def corpus(source: str, tokenization: "Tokenization") -> tuple["Tensor", "Tensor"]:
    """Token ids of windows spread over a genome, and its ranks."""
    import torch

    from cmgems.data_modules.windows import sample_windows
    from cmgems.difficulty.pmi import compute_pmi_table
    from cmgems.errors import UserError
    from cmgems.genome.cache import load_genome
    from cmgems.genome.spans import unambiguous_spans

    genome = load_genome(source)
    spans = unambiguous_spans(genome.codes)
    if int(((spans.end - spans.start) // WINDOW).sum()) < WINDOWS:
        raise UserError(f"{genome.name}: wanted {WINDOWS} windows of {WINDOW} known bases")
    codes_BL = sample_windows(genome.codes, spans, WINDOWS, WINDOW)
    ids_BK = tokenization.encode(torch.from_numpy(codes_BL))
    return ids_BK, torch.from_numpy(compute_pmi_table(genome, tokenization.k).rank)
