"""`cmgems check-masking`: does a strategy keep to the rules?"""

import argparse

from cmgems.utils.text_table import text_table

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
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES
    parser.add_argument("strategy", metavar="STRATEGY", help="package.module:Name, or a name")
    parser.add_argument("--genome", default="sample", help="default: the sample")
    parser.add_argument("--k", type=int, default=6, choices=(3, 4, 5, 6), help="default: 6")


def run(args: argparse.Namespace) -> None:
    from cmgems.errors import UserError
    from cmgems.masking.checks import check_strategy

    corpus_BK, rank_V = corpus(args.genome, args.k)
    checks = check_strategy(args.strategy, corpus_BK, rank_V, args.k)
    print(text_table([("FAIL" if c.problem else "ok  ", c.name, c.found) for c in checks]))
    failed = [check for check in checks if check.problem]
    if failed:
        first = failed[0]
        raise UserError(
            f"{args.strategy}: {len(failed)} of {len(checks)} checks failed, first: {first.name}: "
            f"{first.problem}"
        )


def corpus(source: str, k: int):
    """Token ids of windows spread over a genome, and its ranks."""
    import torch

    from cmgems.data_modules.windows import sample_windows
    from cmgems.difficulty.pmi import compute_pmi_table
    from cmgems.errors import UserError
    from cmgems.genome.cache import load_genome
    from cmgems.genome.spans import unambiguous_spans
    from cmgems.tokenization.kmers import token_ids

    genome = load_genome(source)
    spans = unambiguous_spans(genome.codes)
    if int(((spans.end - spans.start) // WINDOW).sum()) < WINDOWS:
        raise UserError(f"{genome.name}: wanted {WINDOWS} windows of {WINDOW} known bases")
    codes_BL = sample_windows(genome.codes, spans, WINDOWS, WINDOW)
    return token_ids(torch.from_numpy(codes_BL), k), torch.from_numpy(
        compute_pmi_table(genome, k).rank
    )
