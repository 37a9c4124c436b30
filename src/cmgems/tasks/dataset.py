"""Sequences in memory, with and without labels.

Base codes are uint8, A T C G = 0 1 2 3, N and every other IUPAC code = 4; the sequences
are concatenated, sequence i is codes[offsets[i] : offsets[i + 1]].

    >>> data = from_sequences(["ACGT", "GGN"], np.array([1, 0]))
    >>> len(data), data.lengths.tolist(), data.text(1)
    (2, [4, 3], 'GGN')
    >>> data.select([1, 1]).labels.tolist()
    [0, 0]
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from cmgems.genome.alphabet import AMBIGUOUS, BASES, encode_bases

_LETTERS = np.frombuffer((BASES + "N").encode(), np.uint8)


@dataclass(frozen=True, eq=False)
class Sequences:
    """N sequences.

    Attributes
    ----------
    codes : uint8 [total bases]
    offsets : int64 [N + 1]
    """

    codes: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """int64 [N]: bases of each sequence."""
        return np.diff(self.offsets)

    def sequence(self, i: int) -> np.ndarray:
        """Base codes of sequence i, a view."""
        return self.codes[self.offsets[i] : self.offsets[i + 1]]

    def text(self, i: int) -> str:
        """Sequence i in letters; N for what is not A, C, G or T."""
        return _LETTERS[self.sequence(i)].tobytes().decode()

    def select(self, index: np.ndarray | Sequence[int]) -> Self:
        """The sequences of an index, in its order."""
        index = np.asarray(index, np.int64)
        lengths = self.lengths[index]
        offsets = compute_offsets(lengths)
        # position in `codes` of each base: the start of its sequence, and its position in it
        positions = np.repeat(self.offsets[index] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return replace(self, codes=self.codes[positions], offsets=offsets)

    def reverse_complement(self) -> Self:
        """The same sequences, each read on the other strand."""
        owner = np.repeat(np.arange(len(self)), self.lengths)
        positions = self.offsets[owner] + self.offsets[owner + 1] - 1 - np.arange(len(self.codes))
        codes = self.codes[positions]
        codes = np.where(codes < AMBIGUOUS, codes ^ 1, codes)  # A-T and C-G differ in the low bit
        return replace(self, codes=codes)


@dataclass(frozen=True, eq=False)
class LabelledSequences(Sequences):
    """N sequences with their labels.

    Attributes
    ----------
    labels : int64 [N], index of the class; int64 [N, C], 0 or 1 (multi-label);
        float32 [N] (regression)
    names : of the sequences, where their file has names
    """

    labels: np.ndarray
    names: tuple[str, ...] | None = None

    def select(self, index: np.ndarray | Sequence[int]) -> Self:
        """The examples of an index, in its order."""
        index = np.asarray(index, np.int64)
        names = None if self.names is None else tuple(self.names[i] for i in index.tolist())
        return replace(super().select(index), labels=self.labels[index], names=names)


def compute_offsets(lengths: np.ndarray) -> np.ndarray:
    """int64 [N + 1]: where each of N concatenated sequences begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def pack_codes(sequences: Iterable[np.ndarray]) -> Sequences:
    """Sequences from base codes, one uint8 array per sequence."""
    parts = list(sequences)
    lengths = np.array([len(part) for part in parts], np.int64)
    return Sequences(np.concatenate([np.empty(0, np.uint8), *parts]), compute_offsets(lengths))


def from_codes(
    sequences: Iterable[np.ndarray], labels: np.ndarray, names: tuple[str, ...] | None = None
) -> LabelledSequences:
    """Labelled sequences from base codes, one uint8 array per sequence."""
    packed = pack_codes(sequences)
    return LabelledSequences(packed.codes, packed.offsets, labels, names)


def from_sequences(
    sequences: Sequence[str], labels: np.ndarray, names: tuple[str, ...] | None = None
) -> LabelledSequences:
    """Labelled sequences from text in either case; what is not A, C, G or T becomes code 4."""
    return from_codes([encode_bases(s) for s in sequences], labels, names)


def concatenate(parts: Sequence[LabelledSequences]) -> LabelledSequences:
    """All examples of several sets, in their order."""
    names = None
    if all(part.names is not None for part in parts):
        names = tuple(name for part in parts for name in part.names or ())
    return LabelledSequences(
        np.concatenate([part.codes for part in parts]),
        compute_offsets(np.concatenate([part.lengths for part in parts])),
        np.concatenate([part.labels for part in parts]),
        names,
    )


def both_strands(data: LabelledSequences) -> LabelledSequences:
    """All examples as they are, and behind them the reverse complement of each."""
    return concatenate([data, data.reverse_complement()])


def canonical_keys(data: Sequences) -> list[bytes]:
    """A key for each sequence, equal for its copies and its reverse complement."""
    reverse = data.reverse_complement()
    return [
        min(data.sequence(i).tobytes(), reverse.sequence(i).tobytes()) for i in range(len(data))
    ]
