"""Which bases of a genome are soft-masked, on disk: one bit per code, in the order of the codes.

    soft_mask.u1   bit i % 8 (lowest first) of byte i // 8 belongs to code i; 1 for a known base
                   that is in lower case in its source, or in an interval of repeats

The bit of an ambiguous base is 0, and so is that between contigs.
"""

import hashlib
import os
from pathlib import Path
from typing import IO, Any

import numpy as np

from cmgems.genome.alphabet import AMBIGUOUS
from cmgems.genome.formats.base import pack_bits
from cmgems.genome.spans import SCAN_BLOCK, Spans

SOFT_MASK = "soft_mask.u1"


class SoftMaskWriter:
    """Joins bits as they come."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle, self._hash = handle, hashlib.sha256()
        self._rest, self._used = np.uint64(0), 0  # a word that is not full, and how many bits are
        self.bases = 0  # that are soft-masked

    def add(self, words: np.ndarray, first: int, end: int) -> None:
        """Add the bits `first`, 0 or 1, to `end` - 1 of words: see `SequenceChunk.lower`."""
        bits = self._used + end - first
        shift = self._used - first  # from a bit's place in the words to that in the file, -1 to 63
        joined = np.zeros(max(len(words), -(-bits // 64)) + 1, np.uint64)
        if shift < 0:
            joined[: len(words)] = words >> np.uint64(1)
            joined[: len(words) - 1] |= words[1:] << np.uint64(63)
        else:
            joined[: len(words)] = words << np.uint64(shift)
            if shift:
                joined[1 : len(words) + 1] |= words >> np.uint64(64 - shift)
        joined[0] = joined[0] & ~_below(self._used) | self._rest
        whole, self._used = divmod(bits, 64)
        self._rest = joined[whole] & _below(self._used)
        self._write(joined[:whole].astype("<u8", copy=False))

    def _write(self, packed: np.ndarray) -> None:
        self.bases += int(np.bitwise_count(packed).sum(dtype=np.int64))
        self._hash.update(packed.data)
        self._handle.write(packed.data)

    def finish(self) -> dict[str, Any]:
        """Write what is left, sync; what the manifest says of it but its time."""
        last = np.array([self._rest], "<u8").view(np.uint8)
        self._write(last[: -(-self._used // 8)])
        self._handle.flush()
        os.fsync(self._handle.fileno())
        return {"bases": self.bases, "sha256": self._hash.hexdigest()}


def _below(bits: int) -> np.uint64:
    """A word whose lowest bits are 1."""
    return np.uint64((1 << bits) - 1)


def write_spans(path: Path, codes: np.ndarray, spans: Spans) -> dict[str, Any]:
    """Write the soft mask of spans; what the manifest says of it but its time."""
    with open(path, "wb") as handle:
        writer = SoftMaskWriter(handle)
        for first in range(0, len(codes), SCAN_BLOCK):
            part = codes[first : first + SCAN_BLOCK]
            edges = np.zeros(len(part) + 1, np.int8)
            inside = slice(
                np.searchsorted(spans.end, first, "right"),
                np.searchsorted(spans.start, first + len(part)),
            )
            np.add.at(edges, np.maximum(spans.start[inside] - first, 0), 1)
            np.add.at(edges, np.minimum(spans.end[inside] - first, len(part)), -1)
            masked = (edges[:-1].cumsum(dtype=np.int8) > 0) & (part < AMBIGUOUS)
            writer.add(pack_bits(masked), 0, len(part))
        return writer.finish()
