"""Motif footprinting: does a model find a motif likelier than its own letters in another order?

The consensus of a motif is planted in the middle of windows of real DNA that pretraining on the
genome holds out, and in each window a shuffled consensus as well. The score of either is the sum of
ln p(base | all others) over its bases, each hidden in turn; a model that knows the motif gives the
consensus more (the zero-shot test of Patel et al., DART-Eval, NeurIPS 2024).

Shapes: N pairs, W bases of a window, S bases of a motif.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmgems.config.schema import Data
from cmgems.errors import UserError
from cmgems.genome.alphabet import AMBIGUOUS, BASES, encode_bases
from cmgems.genome.genome import Genome
from cmgems.genome.spans import split_spans, unambiguous_spans
from cmgems.hub.pretrained import Pretrained
from cmgems.inference.likelihood import base_log_likelihoods
from cmgems.utils.escapes import table_field
from cmgems.utils.files import open_input
from cmgems.utils.intervals import mean_interval
from cmgems.utils.progress import progress_bar
from cmgems.utils.rng import generator

_WANTED = "JASPAR's matrices, or lines of a name and a consensus"


class Motif(NamedTuple):
    """A motif by its consensus."""

    name: str
    codes: np.ndarray  # uint8 [S]

    @property
    def consensus(self) -> str:
        return "".join(BASES[code] for code in self.codes)


def read_motifs(path: Path) -> list[Motif]:
    """The motifs of a file: matrices in JASPAR's format, of which the most frequent base counts at
    each position, or a name and a consensus per line.

    Raises
    ------
    UserError
        If there are none, or a consensus has other letters than A, C, G and T, or one letter alone.
    """
    with open_input(path, _WANTED) as handle:
        text = handle.readall().decode("utf-8", "replace")
    read = _jaspar if text.lstrip().startswith(">") else _lines
    found = [_motif(path, name, consensus) for name, consensus in read(path, text)]
    if not found:
        raise UserError(f"{path}: has no motif, wanted {_WANTED}")
    return found


def _jaspar(path: Path, text: str) -> list[tuple[str, str]]:
    from Bio import motifs  # heavy, and other files do not need it

    try:
        matrices = motifs.parse(io.StringIO(text), "jaspar")
        return [(f"{m.matrix_id} {m.name}".strip(), str(m.consensus)) for m in matrices]
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is no file of {_WANTED} ({error})") from error


def _lines(path: Path, text: str) -> list[tuple[str, str]]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields or line.startswith("#"):
            continue
        if len(fields) != 2:
            raise UserError(
                f"{path}: line {number}: found {line[:60]!r}, wanted a name and letters"
            )
        rows.append((fields[0], fields[1]))
    return rows


def _motif(path: Path, name: str, consensus: str) -> Motif:
    codes = encode_bases(consensus) if consensus.isascii() else np.full(1, AMBIGUOUS, np.uint8)
    if (codes == AMBIGUOUS).any() or len(np.unique(codes)) < 2:
        raise UserError(
            f"{path}: {name}: found the consensus {consensus[:60]!r}, wanted two or more of A, C, "
            f"G and T"
        )
    return Motif(name, codes)


def footprint_lines(
    model: Pretrained, path: Path, genome: Genome, window: int, pairs: int
) -> Iterator[str]:
    """A header, then a line per motif: how many pairs, in what fraction of them the consensus is
    the likelier (a tie counts half), and the mean difference in nats with its 95 % interval."""
    motifs, tokenization = read_motifs(path), model.tokenization
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
