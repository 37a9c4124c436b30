"""Pretraining windows: the genome split into regions, cut in pieces, and gathered into batches.

Coordinates are offsets into `Genome.codes` (uint8 base codes, A T C G other = 0 1 2 3 4, contigs
separated by one code 4), so a stretch without a code above 3 lies within one contig.
"""

from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from cmgems.genome.alphabet import AMBIGUOUS
from cmgems.genome.spans import Spans
from cmgems.utils.rng import derive_key, generator, sequence_keys


class Windows(NamedTuple):
    """Windows of a genome: int64 offsets [P] and int32 lengths [P], in the order of use."""

    start: np.ndarray
    length: np.ndarray


class WindowSampling(NamedTuple):
    """How spans are cut (DNABERT): a piece has the full length with probability `full_share`, else
    a length uniform in shortest .. full."""

    full: int
    shortest: int
    full_share: float


class WindowBatch(NamedTuple):
    """What the loader ships: one byte a base, and where things are. B windows, longest first.

    `bases` stays on the host when the rest goes to the device, which has the same as `bases_B`.
    """

    codes_BL: Tensor  # uint8 base codes, padded on the right with AMBIGUOUS
    bases: tuple[int, ...]  # length of each window
    keys_B2: Tensor  # int32 draw keys, a function of the window's number in the run alone
    bases_B: Tensor | None = None  # int64


def sample_epoch(spans: Spans, cut: WindowSampling, seed: int, epoch: int) -> Windows:
    """Consecutive, non-overlapping pieces of all spans, shuffled; another cut each epoch."""
    rng = generator(seed, f"windows of epoch {epoch}")
    most = int(((spans.end - spans.start) // cut.shortest + 1).sum())
    # A fifth more than expected: many deviations away for large genomes, and `most` for tiny ones.
    draws = min(most, 64 + int(1.2 * spans.bases / _mean_length(cut)) + len(spans.start))
    full = rng.random(draws) < cut.full_share
    lengths = np.where(full, cut.full, rng.integers(cut.shortest, cut.full + 1, draws))
    start, length = _cut(spans.start, spans.end, lengths.astype(np.int32), cut.shortest)
    order = rng.permutation(len(start))
    return Windows(start[order], length[order])


def sample_windows(codes: np.ndarray, spans: Spans, count: int, length: int) -> np.ndarray:
    """Base codes, uint8 [at most count, length], of windows spread at random over spans; always
    the same ones."""
    cut = WindowSampling(full=length, shortest=length, full_share=1.0)
    codes = np.asarray(codes)  # each slice of a memory map makes a memory map, in 0.1 ms
    pieces = sample_epoch(spans, cut, seed=0, epoch=0)
    starts = pieces.start[pieces.length == length][:count]
    return np.stack([codes[start : start + length] for start in starts])


def _mean_length(cut: WindowSampling) -> float:
    return cut.full_share * cut.full + (1 - cut.full_share) * (cut.shortest + cut.full) / 2


@numba.njit(cache=True)
def _cut(
    span_start: np.ndarray, span_end: np.ndarray, lengths: np.ndarray, shortest: int
) -> tuple[np.ndarray, np.ndarray]:
    start = np.empty(len(lengths), np.int64)
    length = np.empty(len(lengths), np.int32)
    pieces = drawn = 0
    for span in range(len(span_start)):
        place = span_start[span]
        while span_end[span] - place >= shortest and drawn < len(lengths):
            size = min(lengths[drawn], span_end[span] - place)
            drawn += 1
            if size >= shortest:
                start[pieces] = place
                length[pieces] = size
                pieces += 1
            place += size
    return start[:pieces], length[:pieces]


class WindowStream:
    """The endless sequence of training windows: window number n is the same in every run of a seed.

    Epochs follow each other, each a new cut of the genome in shuffled order; only the current
    epoch's cut is held.
    """

    def __init__(self, codes: np.ndarray, spans: Spans, cut: WindowSampling, seed: int):
        # each slice of a memory map makes a memory map, in 0.1 ms
        self.codes = np.asarray(codes)
        self.spans, self.cut, self.seed = spans, cut, seed
        self._mask_stream = derive_key(seed, "masks")
        self._epoch = -1
        self._first = self._end = 0  # window numbers of the current epoch
        self._pieces = self._step = Windows(np.empty(0, np.int64), np.empty(0, np.int32))
        self._assignment, self._assigned_step = np.empty((0, 0), np.int64), (0, 0, 0)

    def pieces(self, first: int, count: int) -> Windows:
        """Windows number first .. first + count - 1."""
        parts = []
        while count > 0:
            self._advance_to_epoch(first)
            offset = first - self._first
            taken = Windows(*(column[offset : offset + count] for column in self._pieces))
            parts.append(taken)
            first, count = first + len(taken.start), count - len(taken.start)
        return Windows(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def batch(
        self, first: int, count: int, micro_batch_index: int = 0, num_micro_batches: int = 1
    ) -> WindowBatch:
        """A hand of windows number first .. first + count - 1."""
        # Kept for the next hand: at the end of an epoch, drawing them again means cutting again.
        if self._assigned_step != (first, count, num_micro_batches):
            self._step = self.pieces(first, count)
            self._assignment = balance_by_length(self._step.length, num_micro_batches)
            self._assigned_step = (first, count, num_micro_batches)
        mine = self._assignment[micro_batch_index]
        keys_B2 = sequence_keys(self._mask_stream, first + mine)
        pieces = Windows(*(column[mine] for column in self._step))
        return collate(self.codes, pieces, keys_B2, self.cut.full)

    def _advance_to_epoch(self, number: int) -> None:
        """Make the epoch that holds window `number` the current one."""
        if number < self._first:
            self._epoch, self._first, self._end = -1, 0, 0
        while number >= self._end:
            self._epoch += 1
            self._pieces = sample_epoch(self.spans, self.cut, self.seed, self._epoch)
            self._first, self._end = self._end, self._end + len(self._pieces.start)


def balance_by_length(lengths: np.ndarray, num_micro_batches: int) -> np.ndarray:
    """B windows dealt out longest first, to and fro: their places, int64 [hands, B / hands].

    All hands have as many windows and nearly as many bases, so that no process waits long for
    another. (In turns, the largest of 64 hands of 32 windows would be 16 % above the mean.)
    """
    rounds = np.argsort(-lengths, kind="stable").reshape(-1, num_micro_batches)
    rounds[1::2] = rounds[1::2, ::-1].copy()
    return rounds.T


def collate(codes: np.ndarray, pieces: Windows, keys_B2: np.ndarray, width: int = 0) -> WindowBatch:
    """Copy pieces out of a genome, longest first: equal lengths share an attention call.

    `width` is the least number of columns.
    """
    order = np.argsort(-pieces.length, kind="stable")
    lengths = pieces.length[order].tolist()
    codes_BL = np.full((len(order), max(lengths[0], width)), AMBIGUOUS, np.uint8)
    for row, (start, length) in enumerate(zip(pieces.start[order].tolist(), lengths, strict=True)):
        codes_BL[row, :length] = codes[start : start + length]
    return WindowBatch(
        torch.from_numpy(codes_BL),
        tuple(lengths),
        torch.from_numpy(keys_B2[order]),
        torch.tensor(lengths),
    )
