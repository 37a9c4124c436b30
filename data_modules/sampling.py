"""Which windows training and validation take: spans of a genome cut into windows, epoch by epoch;
of several genomes, each its share.

Coordinates are offsets into `Genome.codes`, as in `cmgems.data_modules.windows`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cmgems.genome.spans import Spans
from cmgems.utils.kernels import kernel
from cmgems.utils.rng import derive_key, generator


class Windows(NamedTuple):
    """Windows of a genome: int64 offsets [N] and int32 lengths [N], in the order of use."""

    start: np.ndarray
    length: np.ndarray

    def first(self, count: int) -> "Windows":
        """The first windows, at most so many as there are."""
        return Windows(self.start[:count], self.length[:count])


class WindowSampling(NamedTuple):
    """How spans are cut (as in DNABERT).

    A window has the full length with probability `full_length_fraction`, else a length uniform in
    min_length .. full_length.
    """

    full_length: int
    min_length: int
    full_length_fraction: float


class GenomeShare(NamedTuple):
    """What is drawn of one genome."""

    spans: Spans
    share: float = 1.0  # of the windows; those of all genomes add up to 1


def sample_epoch(spans: Spans, sampling: WindowSampling, seed: int, epoch: int) -> Windows:
    """Consecutive, non-overlapping windows of all spans, shuffled; each epoch is cut anew."""
    rng = generator(seed, f"windows of epoch {epoch}")
    max_windows = int(((spans.end - spans.start) // sampling.min_length + 1).sum())
    # A fifth more than expected: many deviations away for large genomes, and the maximum for tiny
    # ones.
    num_lengths = min(
        max_windows, 64 + int(1.2 * spans.bases / _mean_length(sampling)) + len(spans.start)
    )
    full = rng.random(num_lengths) < sampling.full_length_fraction
    lengths = np.where(
        full,
        sampling.full_length,
        rng.integers(sampling.min_length, sampling.full_length + 1, num_lengths),
    )
    start, length = _cut_spans(
        spans.start, spans.end, lengths.astype(np.int32), sampling.min_length
    )
    order = rng.permutation(len(start))
    return Windows(start[order], length[order])


def sample_windows(
    codes: np.ndarray, genomes: Sequence[GenomeShare], count: int, length: int
) -> np.ndarray:
    """Base codes, uint8 [at most count, length], of windows spread at random over genomes.

    They are always the same.
    """
    sampling = WindowSampling(full_length=length, min_length=length, full_length_fraction=1.0)
    codes = np.asarray(codes)  # each slice of a memory map makes a memory map, in 0.1 ms
    windows = sample_mixed_epoch(genomes, sampling, seed=0)
    starts = windows.start[windows.length == length][:count]
    return np.stack([codes[start : start + length] for start in starts])


def _mean_length(sampling: WindowSampling) -> float:
    full, fraction = sampling.full_length, sampling.full_length_fraction
    return fraction * full + (1 - fraction) * (sampling.min_length + full) / 2


@kernel
def _cut_spans(
    span_start: np.ndarray, span_end: np.ndarray, lengths: np.ndarray, min_length: int
) -> tuple[np.ndarray, np.ndarray]:
    start = np.empty(len(lengths), np.int64)
    length = np.empty(len(lengths), np.int32)
    count = used = 0
    for span in range(len(span_start)):
        position = span_start[span]
        while span_end[span] - position >= min_length and used < len(lengths):
            size = min(lengths[used], span_end[span] - position)
            used += 1
            if size >= min_length:
                start[count] = position
                length[count] = size
                count += 1
            position += size
    return start[:count], length[:count]


class EpochWindows:
    """The endless sequence of windows of one genome: number n is the same in every run of a seed.

    Epochs follow each other, each with its own cut of the genome in shuffled order; only the
    current epoch's cut is held.
    """

    def __init__(self, spans: Spans, sampling: WindowSampling, seed: int):
        self.spans, self.sampling, self.seed = spans, sampling, seed
        self._epoch = -1
        self._first = self._end = 0  # window numbers of the current epoch
        self._windows = Windows(np.empty(0, np.int64), np.empty(0, np.int32))

    def windows(self, first: int, count: int) -> Windows:
        """Windows number first .. first + count - 1, at least one."""
        parts = []
        while count > 0:
            self._advance_to_epoch(first)
            offset = first - self._first
            part = Windows(*(column[offset : offset + count] for column in self._windows))
            parts.append(part)
            first, count = first + len(part.start), count - len(part.start)
        return Windows(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _advance_to_epoch(self, number: int) -> None:
        """Make the epoch that holds window `number` the current one."""
        if number < self._first:
            self._epoch, self._first, self._end = -1, 0, 0
        while number >= self._end:
            self._epoch += 1
            self._windows = sample_epoch(self.spans, self.sampling, self.seed, self._epoch)
            self._first, self._end = self._end, self._end + len(self._windows.start)


class MixedWindows:
    """The endless sequence of windows of several genomes, in turns by their shares (`take_turns`).

    Each genome's own windows are those of `EpochWindows`: they come in its own epochs, however
    often the others have gone through theirs.
    """

    def __init__(self, genomes: Sequence[GenomeShare], sampling: WindowSampling, seed: int):
        self.shares = [genome.share for genome in genomes]
        self._genomes = [
            EpochWindows(genome.spans, sampling, genome_seed(seed, number))
            for number, genome in enumerate(genomes)
        ]

    def windows(self, first: int, count: int) -> Windows:
        """Windows number first .. first + count - 1."""
        turns = take_turns(self.shares, first, count)
        start, length = np.empty(count, np.int64), np.empty(count, np.int32)
        for number, genome in enumerate(self._genomes):
            chosen = np.flatnonzero(turns.genome == number)
            if len(chosen):
                drawn = genome.windows(int(turns.number[chosen[0]]), len(chosen))
                start[chosen], length[chosen] = drawn
        return Windows(start, length)


class Turns(NamedTuple):
    """Which window of which genome comes when; int64 [N] each."""

    genome: np.ndarray
    number: np.ndarray  # of the window among those of its genome


def take_turns(shares: Sequence[float], first: int, count: int) -> Turns:
    """The windows number first .. first + count - 1 of several genomes.

    Window number j of a genome with the share s is due at (j + 1/2) / s; the order is that in which
    they are due, at the same time that of the genomes. So of the first n windows a genome has n s,
    to within (G + 1) / 2 windows of G genomes, whatever n is, and nothing has to be counted from
    the beginning.
    """
    margin = 2 * len(shares)  # at time t, t windows were due, to within half the number of genomes
    since, until = max(first - margin, 0), first + count + margin
    edges = [(int(since * share + 0.5), int(until * share + 0.5)) for share in shares]
    numbers = [np.arange(*edge) for edge in edges]
    due = [(part + 0.5) / share for part, share in zip(numbers, shares, strict=True)]
    genome = np.repeat(np.arange(len(shares)), [len(part) for part in numbers])
    order = np.lexsort((genome, np.concatenate(due)))
    offset = first - sum(begin for begin, _ in edges)
    order = order[offset : offset + count]
    return Turns(genome[order], np.concatenate(numbers)[order])


def sample_mixed_epoch(
    genomes: Sequence[GenomeShare], sampling: WindowSampling, seed: int
) -> Windows:
    """The windows of the first epoch of each genome, in turns by their shares; those of a genome
    that has most are the last."""
    parts = [
        sample_epoch(genome.spans, sampling, genome_seed(seed, number), epoch=0)
        for number, genome in enumerate(genomes)
    ]
    due = [
        (np.arange(len(part.start)) + 0.5) / genome.share
        for part, genome in zip(parts, genomes, strict=True)
    ]
    order = np.argsort(np.concatenate(due), kind="stable")
    return Windows(*(np.concatenate(column)[order] for column in zip(*parts, strict=True)))


def genome_seed(seed: int, number: int) -> int:
    """The seed of the windows of genome `number`: that of the run for the first, as for one that is
    alone."""
    return derive_key(seed, f"genome {number}") if number else seed
