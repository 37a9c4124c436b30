"""The stream of training windows, and the batches that windows are collated into.

Coordinates are offsets into `Genome.codes` (uint8 base codes, A T C G other = 0 1 2 3 4, contigs
separated by one code 4), so a stretch without a code above 3 is part of one contig.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cmgems.data_modules.sampling import GenomeShare, MixedWindows, Windows, WindowSampling
from cmgems.genome.alphabet import AMBIGUOUS, reverse_complement
from cmgems.tokenization.base import PAD, Tokenization
from cmgems.utils.rng import derive_key, sequence_keys


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


class WindowStream:
    """The endless sequence of training windows: window number n is the same in every run of a seed.

    Parameters
    ----------
    codes : uint8 [n], base codes of the genome, or of several as one
    genomes : what is drawn of it, or of each of them
    both_strands : whether half of them are reverse complements
    """

    def __init__(
        self,
        codes: np.ndarray,
        genomes: Sequence[GenomeShare],
        sampling: WindowSampling,
        seed: int,
        both_strands: bool = False,
    ):
        # each slice of a memory map makes a memory map, in 0.1 ms
        self.codes = np.asarray(codes)
        self.genomes, self.sampling, self.seed = genomes, sampling, seed
        self._source = MixedWindows(genomes, sampling, seed)
        self._mask_stream = derive_key(seed, "masks")
        self._strand_stream = derive_key(seed, "strands") if both_strands else None
        self._step = self._source.windows(0, 0)
        self._assignment, self._assigned_step = np.empty((0, 0), np.int64), (0, 0, 0)

    def windows(self, first: int, count: int) -> Windows:
        """Windows number first .. first + count - 1."""
        return self._source.windows(first, count)

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
