"""Motif footprinting: does a model find a motif likelier than its own letters in another order?

The consensus of a motif is planted in the middle of windows of real DNA that pretraining on the
genome holds out, and in each window a shuffled consensus as well. The score of either is the sum of
ln p(base | all others) over its bases, each hidden in turn; a model that knows the motif gives the
consensus more (the zero-shot test of Patel et al., DART-Eval, NeurIPS 2024).

Shapes: N pairs, W bases of a window, S bases of a motif.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cmgems.config.schema import Data
from cmgems.errors import UserError
from cmgems.genome.genome import Genome
from cmgems.genome.spans import split_spans, unambiguous_spans
from cmgems.hub.pretrained import Pretrained
from cmgems.inference.likelihood import base_log_likelihoods
from cmgems.inference.motifs import Motif, read_motifs
from cmgems.utils.escapes import table_field
from cmgems.utils.intervals import mean_interval
from cmgems.utils.progress import progress_bar
from cmgems.utils.rng import generator


def footprint_lines(
    model: Pretrained, path: Path, genome: Genome, window: int, pairs: int
) -> Iterator[str]:
    """A header, then a line per motif: how many pairs, in what fraction of them the consensus is
    the likelier (a tie counts half), and the mean difference in nats with its 95 % interval."""
    motifs, tokenization = _with_other_orders(path), model.tokenization
    max_bases = tokenization.max_bases(model.model.encoder.config.max_position_embeddings)
    window = min(window or max_bases, max_bases)
    for motif in motifs:
        if len(motif.codes) > window:
            raise UserError(
                f"{path}: {motif.name} has {len(motif.codes)} bases, wanted at most {window}, "
                f"those of a window"
            )
    yield "name\tconsensus\tpairs\tconsensus_likelier\tdifference\tlow\thigh"
    with progress_bar(len(motifs), "scoring", " motifs") as advance:
        for motif in motifs:
            difference_N = score_footprint(model, genome, motif, window, pairs)
            wins = np.mean(np.sign(difference_N) / 2 + 0.5)
            mean, low, high, count = mean_interval(difference_N)
            numbers = f"{count}\t{wins:.4f}\t{mean:.6f}\t{low:.6f}\t{high:.6f}"
            yield f"{table_field(motif.name)}\t{motif.consensus}\t{numbers}"
            advance(1)


def _with_other_orders(path: Path) -> list[Motif]:
    """The motifs of a file without those of one letter alone, which have no other order."""
    motifs = read_motifs(path)
    usable = [motif for motif in motifs if len(np.unique(motif.codes)) > 1]
    if not usable:
        raise UserError(
            f"{path}: each consensus is one letter alone, which has no other order; wanted others"
        )
    if left := len(motifs) - len(usable):
        print(
            f"{path}: {left:,} of {len(motifs):,} motifs are left out: their consensus is one "
            f"letter alone, which has no other order",
            file=sys.stderr,
        )
    return usable


def score_footprint(
    model: Pretrained, genome: Genome, motif: Motif, window: int, pairs: int
) -> np.ndarray:
    """float64 [N]: ln p of the consensus less that of a shuffled one, in the same window each.

    Windows and orders are a function of the genome, the window and the motif.
    """
    rng = generator(0, f"footprint {motif.consensus} {window}")
    start_N = _draw_windows(genome, window, pairs, rng)
    first, size = (window - len(motif.codes)) // 2, len(motif.codes)
    windows_N2W = np.stack([genome.codes[start : start + window] for start in start_N])
    windows_N2W = np.repeat(windows_N2W[:, None], 2, 1)
    for pair in windows_N2W:
        pair[0, first : first + size] = motif.codes
        pair[1, first : first + size] = _shuffled(motif.codes, rng)
    row_R = np.repeat(np.arange(2 * pairs), size)
    position_R = np.tile(np.arange(first, first + size), 2 * pairs)
    nats_R = base_log_likelihoods(
        model.model, model.tokenization, windows_N2W.reshape(-1, window), row_R, position_R
    )
    score_N2 = nats_R.reshape(pairs, 2, size).sum(2)
    return score_N2[:, 0] - score_N2[:, 1]


def _shuffled(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The letters in another order."""
    while True:
        shuffled = rng.permutation(codes)
        if (shuffled != codes).any():
            return shuffled


def _draw_windows(genome: Genome, window: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """int64 [count]: where windows of known bases begin, in what pretraining holds out."""
    data = Data()
    known = unambiguous_spans(genome.codes)
    _, held_out = split_spans(known, data.validation_fraction, data.validation_block)
    room = np.maximum(held_out.end - held_out.start - window + 1, 0)
    total = int(room.sum())
    if not total:
        raise UserError(
            f"{genome.name}: has no {window} known bases in a row in what pretraining holds out, "
            f"wanted a smaller --window or another --genome"
        )
    drawn = rng.integers(0, total, count)
    span = np.searchsorted(room.cumsum(), drawn, "right")
    return held_out.start[span] + drawn - (room.cumsum() - room)[span]
