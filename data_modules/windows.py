"""Pretraining windows: regions of the genome are cut into windows, which are collated into batches.

Coordinates are offsets into `Genome.codes` (uint8 base codes, A T C G other = 0 1 2 3 4, contigs
separated by one code 4), so a stretch without a code above 3 is part of one contig.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cmgems.genome.alphabet import AMBIGUOUS, reverse_complement
from cmgems.genome.spans import Spans
from cmgems.tokenization.base import PAD, Tokenization
from cmgems.utils.kernels import kernel
from cmgems.utils.rng import derive_key, generator, sequence_keys


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


class WindowBatch(NamedTuple):
    """What the loader ships: one byte per base. B windows, the longest first.

    `bases` stays on the host when the rest goes to the device, which has the same as `bases_B`; so
    does `tokens`. Ids are there where the host encodes, see `with_tokens`.
    """

    codes_BL: Tensor  # uint8 base codes, padded on the right with AMBIGUOUS
    bases: tuple[int, ...]  # length of each window
    keys_B2: Tensor  # int32 random keys, a function of the window's number in the run alone
    bases_B: Tensor | None = None  # int64
    ids_BK: Tensor | None = None  # int32 token ids, padded on the right with [PAD]
    tokens: tuple[int, ...] | None = None  # of each window, without [CLS] and [SEP]
    tokens_B: Tensor | None = None  # int64
    starts: tuple[int, ...] = ()  # where in the genome's codes each window begins, if it is of one
    in_repeat_BL: Tensor | None = None  # bool; where the loss weighs repeats
    reverse: tuple[bool, ...] = ()  # the windows that are reverse complements; empty: none

    def is_reverse(self, row: int) -> bool:
        """Whether a window is the reverse complement of what is at its start in the genome."""
        return bool(self.reverse) and self.reverse[row]

    def to(self, device: torch.device | str) -> "WindowBatch":
        """Its tensors on a device; what is on the host for good stays there untouched.

        They are copied to a GPU from pinned memory: else the host would wait until the device has
        done all that it was given before.
        """
        tensors: dict[str, Any] = {
            name: x for name, x in self._asdict().items() if isinstance(x, Tensor)
        }
        if torch.device(device).type == "cuda":
            tensors = {name: x.pin_memory() for name, x in tensors.items()}
        return self._replace(
            **{name: x.to(device, non_blocking=True) for name, x in tensors.items()}
        )

    def content_tokens(self, tokenization: Tokenization) -> tuple[int, ...]:
        """Tokens of each window, without [CLS] and [SEP]."""
        if self.tokens is not None:
            return self.tokens
        return tuple(map(tokenization.content_tokens, self.bases))


def with_tokens(batch: WindowBatch, tokenization: Tokenization, min_tokens: int = 0) -> WindowBatch:
    """The batch with token ids, at least `min_tokens` columns of them, if the host has to encode
    (`Tokenization.on_host`) and has not yet; else as it is."""
    if not tokenization.on_host or batch.ids_BK is not None:
        return batch
    ids_BK = tokenization.encode(batch.codes_BL, batch.bases)
    tokens = tokenization.count_tokens(ids_BK, batch.bases)
    ids_BK = F.pad(ids_BK, (0, max(min_tokens - ids_BK.shape[1], 0)), value=PAD)
    tokens_B = torch.tensor(tokens, device=ids_BK.device)
    return batch._replace(ids_BK=ids_BK, tokens=tokens, tokens_B=tokens_B)


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


def sample_windows(codes: np.ndarray, spans: Spans, count: int, length: int) -> np.ndarray:
    """Base codes, uint8 [at most count, length], of windows spread at random over spans.

    They are always the same.
    """
    sampling = WindowSampling(full_length=length, min_length=length, full_length_fraction=1.0)
    codes = np.asarray(codes)  # each slice of a memory map makes a memory map, in 0.1 ms
    windows = sample_epoch(spans, sampling, seed=0, epoch=0)
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


class WindowStream:
    """The endless sequence of training windows: window number n is the same in every run of a seed.

    Epochs follow each other, each with its own cut of the genome in shuffled order; only the
    current epoch's cut is held.
    """

    def __init__(
        self,
        codes: np.ndarray,
        spans: Spans,
        sampling: WindowSampling,
        seed: int,
        both_strands: bool = False,
    ):
        # each slice of a memory map makes a memory map, in 0.1 ms
        self.codes = np.asarray(codes)
        self.spans, self.sampling, self.seed = spans, sampling, seed
        self._mask_stream = derive_key(seed, "masks")
        self._strand_stream = derive_key(seed, "strands") if both_strands else None
        self._epoch = -1
        self._first = self._end = 0  # window numbers of the current epoch
        self._windows = self._step = Windows(np.empty(0, np.int64), np.empty(0, np.int32))
        self._assignment, self._assigned_step = np.empty((0, 0), np.int64), (0, 0, 0)

    def windows(self, first: int, count: int) -> Windows:
        """Windows number first .. first + count - 1."""
        parts = []
        while count > 0:
            self._advance_to_epoch(first)
            offset = first - self._first
            part = Windows(*(column[offset : offset + count] for column in self._windows))
            parts.append(part)
            first, count = first + len(part.start), count - len(part.start)
        return Windows(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def batch(
        self, first: int, count: int, micro_batch_index: int = 0, num_micro_batches: int = 1
    ) -> WindowBatch:
        """A micro-batch of windows number first .. first + count - 1."""
        # Cached for the next micro-batch: at the end of an epoch, looking these windows up again
        # means cutting two epochs again.
        if self._assigned_step != (first, count, num_micro_batches):
            self._step = self.windows(first, count)
            self._assignment = balance_by_length(self._step.length, num_micro_batches)
            self._assigned_step = (first, count, num_micro_batches)
        chosen = self._assignment[micro_batch_index]
        keys_B2 = sequence_keys(self._mask_stream, first + chosen)
        windows = Windows(*(column[chosen] for column in self._step))
        reverse_B = self.is_reverse(first + chosen)
        return collate(self.codes, windows, keys_B2, self.sampling.full_length, reverse_B)

    def is_reverse(self, numbers: np.ndarray) -> np.ndarray | None:
        """bool [B]: the windows of these numbers that are reverse complements, half of them; None
        where all are forward."""
        if self._strand_stream is None:
            return None
        return sequence_keys(self._strand_stream, numbers)[:, 0] % 2 == 1

    def _advance_to_epoch(self, number: int) -> None:
        """Make the epoch that holds window `number` the current one."""
        if number < self._first:
            self._epoch, self._first, self._end = -1, 0, 0
        while number >= self._end:
            self._epoch += 1
            self._windows = sample_epoch(self.spans, self.sampling, self.seed, self._epoch)
            self._first, self._end = self._end, self._end + len(self._windows.start)


def balance_by_length(lengths: np.ndarray, num_micro_batches: int) -> np.ndarray:
    """Assign B windows to micro-batches, the longest first, in snake order.

    All micro-batches get the same number of windows and nearly the same number of bases, so that
    no process waits long for another. (In turns, the largest of 64 micro-batches of 32 windows
    would be 16 % above the mean.)

    Returns
    -------
    int64 [num_micro_batches, B / num_micro_batches], indices of the windows
    """
    rounds = np.argsort(-lengths, kind="stable").reshape(-1, num_micro_batches)
    rounds[1::2] = rounds[1::2, ::-1].copy()
    return rounds.T


def collate(
    codes: np.ndarray,
    windows: Windows,
    keys_B2: np.ndarray,
    min_width: int = 0,
    reverse_B: np.ndarray | None = None,
) -> WindowBatch:
    """Copy windows out of a genome, the longest first: equal lengths go into one attention call.

    Parameters
    ----------
    min_width : the least number of columns
    reverse_B : bool [B], the windows that become their reverse complements; None: none
    """
    order = np.argsort(-windows.length, kind="stable")
    lengths = windows.length[order].tolist()
    starts = windows.start[order].tolist()
    is_reverse = [False] * len(order) if reverse_B is None else reverse_B[order].tolist()
    codes_BL = np.full((len(order), max(lengths[0], min_width)), AMBIGUOUS, np.uint8)
    for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        window = codes[start : start + length]
        codes_BL[row, :length] = reverse_complement(window) if is_reverse[row] else window
    return WindowBatch(
        torch.from_numpy(codes_BL),
        tuple(lengths),
        torch.from_numpy(keys_B2[order]),
        torch.tensor(lengths),
        starts=tuple(starts),
        reverse=() if reverse_B is None else tuple(is_reverse),
    )
