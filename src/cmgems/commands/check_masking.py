"""`cmgems check-masking`: does a masking strategy keep to the rules?"""

import argparse
from typing import TYPE_CHECKING

from cmgems.config.schema import Data
from cmgems.errors import UserError
from cmgems.utils.text_table import text_table

if TYPE_CHECKING:
    from torch import Tensor

    from cmgems.tokenization import Tokenization

NUM_WINDOWS, WINDOW_LENGTH = 1024, 510  # bases

DESCRIPTION = """\
Check a masking strategy on windows of a genome: its masks must have the right shape, never cover
special tokens, be reproducible, depend on the sequence alone and not on the batch, the padding or
the position, and meet the budget of 15 % of the tokens at every length.
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
    parser.add_argument(
        "strategy", metavar="STRATEGY", help="package.module:Name, or the name of a built-in one"
    )
    parser.add_argument(
        "--genome",
        default="sample",
        help="a store, a sequence file or `sample` (default), 4 Mb of human chromosome 20",
    )
    parser.add_argument(
        "--tokenization",
        default="kmers",
        choices=("kmers", "bases", "nonoverlapping", "bpe"),
        help="default: kmers",
    )
    parser.add_argument(
        "--k", type=int, default=6, choices=(3, 4, 5, 6), help="bases per k-mer (default 6)"
    )


def run(args: argparse.Namespace) -> None:
    # Heavy imports are inside the functions: `--help` must answer at once.
    import torch

    from cmgems.data_modules.ngrams import genome_ngrams, with_units
    from cmgems.difficulty.table import MIN_COUNT, rank_scores
    from cmgems.genome.cache import load_genome
    from cmgems.masking.checks import check_strategy
    from cmgems.masking.strategies import wants_kmers
    from cmgems.masking.types import RankTables
    from cmgems.tokenization import BytePairs, build_tokenization
    from cmgems.training.masks import load_markov_bits

    data = Data(genome=args.genome, tokenization=args.tokenization, k=args.k)
    tokenization = build_tokenization(data)
    if isinstance(tokenization, BytePairs):
        if wants_kmers(args.strategy):
            raise UserError(
                f"{args.strategy}: ranks k-mers by a Markov model, wanted another --tokenization "
                "than bpe, whose n-grams are ranked by PMI or loss alone"
            )
        table = genome_ngrams(load_genome(args.genome), tokenization, MIN_COUNT)
        tokenization = with_units(tokenization, table)
    ids_BK, rank_V = sample_tokens(args.genome, tokenization)
    bits_V = load_markov_bits(load_genome(args.genome), tokenization, [args.strategy])
    markov_rank_V = None if bits_V is None else torch.from_numpy(rank_scores(bits_V))
    ranks = RankTables.before_training(rank_V, markov_rank_V)
    checks = check_strategy(args.strategy, ids_BK, ranks, tokenization)
    print(text_table([("FAIL" if c.problem else "ok  ", c.name, c.result) for c in checks]))
    failed = [check for check in checks if check.problem]
    if failed:
        first = failed[0]
        raise UserError(
            f"{args.strategy}: {len(failed)} of {len(checks)} checks failed, first: {first.name}: "
            f"{first.problem}"
        )


def sample_tokens(source: str, tokenization: "Tokenization") -> "tuple[Tensor, Tensor]":
    """Token ids (int32 [B, K]) of windows spread over a genome, and its rank table (int32 [V])."""
    import torch

    from cmgems.data_modules.ngrams import genome_ngrams
    from cmgems.data_modules.sampling import GenomeShare, sample_windows
    from cmgems.difficulty.pmi import compute_pmi_table
    from cmgems.difficulty.table import MIN_COUNT
    from cmgems.genome.cache import load_genome
    from cmgems.genome.spans import unambiguous_spans
    from cmgems.masking.rates import corpus_tokens
    from cmgems.tokenization import BytePairs

    genome = load_genome(source)
    spans = unambiguous_spans(genome.codes)
    num_windows = int(((spans.end - spans.start) // WINDOW_LENGTH).sum())
    if num_windows < NUM_WINDOWS:
        raise UserError(
            f"{genome.name}: found {num_windows} windows of {WINDOW_LENGTH} known bases, wanted "
            f"{NUM_WINDOWS}"
        )
    sampled = sample_windows(genome.codes, [GenomeShare(spans)], NUM_WINDOWS, WINDOW_LENGTH)
    codes_BL = torch.from_numpy(sampled)
    columns = tokenization.max_tokens(WINDOW_LENGTH) - 2
    if isinstance(tokenization, BytePairs):
        columns = tokenization.content_tokens(WINDOW_LENGTH)
        rank_V = torch.from_numpy(genome_ngrams(genome, tokenization, MIN_COUNT).rank)
    else:
        rank_V = torch.from_numpy(compute_pmi_table(genome, tokenization.k).rank)
    return corpus_tokens(tokenization, codes_BL, columns), rank_V
