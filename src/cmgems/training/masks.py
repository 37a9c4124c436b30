"""The ranks and the masker of an experiment, from its genome."""

from collections.abc import Iterable

import numpy as np
import torch

from cmgems.config.schema import Experiment
from cmgems.curriculum.schedule import start_params
from cmgems.data_modules.ngrams import genome_ngrams, with_units
from cmgems.data_modules.pretraining import GenomeDataModule
from cmgems.difficulty.markov_bits import genome_markov_bits
from cmgems.difficulty.ngrams import NgramTable
from cmgems.difficulty.pmi import compute_pmi_table
from cmgems.difficulty.table import PmiTable, rank_scores
from cmgems.difficulty.table_io import read_table
from cmgems.genome.genome import Genome
from cmgems.masking.checks import require_rules
from cmgems.masking.masker import Masker
from cmgems.masking.rates import CenterRates, corpus_tokens
from cmgems.masking.strategies import MARKOV_TABLES, STRATEGIES, reads_ranks
from cmgems.tokenization import BytePairs, Tokenization, build_tokenization
from cmgems.training.module import REFERENCE_MASKS, REFERENCE_PARAMS, max_window_tokens

CORPUS_WINDOWS = 1024  # windows of the training genome on which the masks' budget is measured


def load_difficulty(experiment: Experiment, genome: Genome) -> PmiTable | NgramTable:
    """The rank table: from the file that the experiment names, or from the genome."""
    pmi, k = experiment.pmi, experiment.data.k
    tokenization = build_tokenization(experiment.data)
    if isinstance(tokenization, BytePairs):
        return genome_ngrams(genome, tokenization, pmi.min_count)
    if pmi.table:
        return read_table(pmi.table, k)
    both_strands = experiment.data.strands == "both"
    return compute_pmi_table(
        genome, k, pmi.definition, pmi.min_count, pmi.skip_repeats, both_strands
    )


def build_masker(
    experiment: Experiment,
    data: GenomeDataModule,
    table: PmiTable | NgramTable,
    more_strategies: Iterable[str] = (),
) -> Masker:
    """A masker whose budget is measured on the training genome.

    `more_strategies` are those that it will be asked for besides the experiment's.
    """
    tokenization = build_tokenization(experiment.data)
    if isinstance(table, NgramTable):
        assert isinstance(tokenization, BytePairs)  # load_difficulty has it for no other
        tokenization = with_units(tokenization, table)
    codes = torch.from_numpy(data.corpus(CORPUS_WINDOWS, experiment.data.window_length))
    rank_V = torch.from_numpy(table.rank)
    masking, strategies = experiment.masking, experiment.curriculum.strategies
    paper, folder = masking.center_rate == "paper", data.genome.path / "rates"
    columns = max_window_tokens(experiment, tokenization) - 2
    corpus_BK = corpus_tokens(tokenization, codes, columns)
    all_strategies = (*strategies, *more_strategies)
    bits_V = load_markov_bits(data.genome, tokenization, all_strategies)
    markov_rank_V = None if bits_V is None else torch.from_numpy(rank_scores(bits_V))
    follows_bits = bits_V is not None and any(reads_ranks(n, "reducible_V") for n in strategies)
    center_rates = CenterRates(corpus_BK, rank_V, tokenization, paper, folder, markov_rank_V)
    masker = Masker(
        tokenization,
        rank_V,
        center_rates,
        follow_loss=any(reads_ranks(name, "loss_V") for name in strategies),
        params=start_params(masking),
        markov_bits_V=torch.from_numpy(bits_V) if follows_bits else None,
    )
    for name in strategies:
        if name not in STRATEGIES:
            require_rules(name, corpus_BK, masker.ranks, tokenization)
    masker.prepare(strategies)
    masker.prepare(REFERENCE_MASKS, REFERENCE_PARAMS)
    return masker


def load_markov_bits(
    genome: Genome, tokenization: Tokenization, strategies: Iterable[str]
) -> np.ndarray | None:
    """float64 [4**k]: bits per base of each k-mer by a Markov model of the genome, where one of the
    strategies may read them; None elsewhere, and for the n-grams of byte pairs."""
    reads = any(reads_ranks(name, table) for name in strategies for table in MARKOV_TABLES)
    if not reads or isinstance(tokenization, BytePairs):
        return None
    return genome_markov_bits(genome, tokenization.k)


def unigram_entropy(
    table: PmiTable | NgramTable, genome: Genome, tokenization: Tokenization
) -> float:
    """Entropy of the tokens' frequencies, nats."""
    counts = table.counts
    # A table from elsewhere need not have counts, and one without repeats has not those of all.
    if (counts < 0).any() or (isinstance(table, PmiTable) and table.skips_repeats):
        counts = compute_pmi_table(genome, table.k).counts
    counts = tokenization.unigram_counts(counts)
    frequency = counts[counts > 0] / counts.sum()
    return float(-(frequency * np.log(frequency)).sum())
