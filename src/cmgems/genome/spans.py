"""Stretches of known bases, and their split into training and validation."""

from typing import NamedTuple

import numpy as np

from cmgems.genome.alphabet import AMBIGUOUS

SCAN_BLOCK = 1 << 24  # codes that are scanned at a time


class Spans(NamedTuple):
    """Half-open intervals [start, end) of a genome, ascending; int64 [N] each."""

    start: np.ndarray
    end: np.ndarray

    @property
    def bases(self) -> int:
        return int((self.end - self.start).sum())


def unambiguous_spans(codes: np.ndarray) -> Spans:
    """The stretches of A, C, G and T between gaps, in one pass with bounded memory."""
    edges: list[np.ndarray] = []
    previous = False
    for offset in range(0, len(codes), SCAN_BLOCK):
        known = codes[offset : offset + SCAN_BLOCK] < AMBIGUOUS
        turns = np.flatnonzero(known[1:] != known[:-1]) + 1
        if known[0] != previous:
            turns = np.append(0, turns)
        edges.append(turns + offset)
        previous = known[-1]
    if previous:
        edges.append(np.array([len(codes)]))
    turns = np.concatenate(edges) if edges else np.empty(0, np.int64)
    return Spans(turns[0::2], turns[1::2])


def split_spans(spans: Spans, fraction: float, block: int) -> tuple[Spans, Spans]:
    """Training and validation spans that never overlap.

    The genome is cut into blocks of `block` bases at fixed positions; every (1 / fraction)-th of
    them is for validation. No seed enters, so all runs on a genome share their validation DNA.
    """
    cuts = np.unique(np.concatenate([spans.start, *_block_edges(spans, block)]))
    owner = np.searchsorted(spans.start, cuts, side="right") - 1
    ends = np.minimum(np.append(cuts[1:], spans.end[-1:]), spans.end[owner])
    number = cuts // block
    held_out = np.floor((number + 1) * fraction) > np.floor(number * fraction)
    training = _merge(cuts[~held_out], ends[~held_out])
    return training, _merge(cuts[held_out], ends[held_out])


def hold_out_blocks(
    spans: Spans, genome_length: int, fraction: float, block: int
) -> tuple[Spans, Spans]:
    """Training and validation spans of a genome, as `split_spans` cuts them.

    A small genome gets smaller blocks, so that validation gets at least two of them.

    Parameters
    ----------
    genome_length : bases of the whole genome, whatever the spans are
    fraction, block : the keys data.validation_fraction and data.validation_block
    """
    return split_spans(spans, fraction, min(block, int(genome_length * fraction / 2) or 1))


def _block_edges(spans: Spans, block: int) -> list[np.ndarray]:
    """The multiples of `block` inside each span."""
    return [
        np.arange(-(-start // block) * block, end, block)
        for start, end in zip(spans.start.tolist(), spans.end.tolist(), strict=True)
    ]


def _merge(start: np.ndarray, end: np.ndarray) -> Spans:
    """Join intervals that touch."""
    if not len(start):
        return Spans(start, end)
    apart = start[1:] != end[:-1]
    return Spans(start[np.append(True, apart)], end[np.append(apart, True)])


def union(start: np.ndarray, end: np.ndarray) -> Spans:
    """Intervals in any order that may overlap, as spans that do not; empty ones are left out."""
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    start, end = start[start < end], end[start < end]
    if not len(start):
        return Spans(start, end)
    reach = np.maximum.accumulate(end)
    begins = np.append(True, start[1:] > reach[:-1])
    return Spans(start[begins], reach[np.append(begins[1:], True)])


def intersect(a: Spans, b: Spans) -> Spans:
    """What is in both."""
    first = np.searchsorted(b.end, a.start, side="right")
    count = np.maximum(np.searchsorted(b.start, a.end, side="left") - first, 0)
    row = np.repeat(np.arange(len(a.start)), count)
    number = np.arange(len(row)) - np.repeat(count.cumsum() - count, count) + first[row]
    return Spans(np.maximum(a.start[row], b.start[number]), np.minimum(a.end[row], b.end[number]))


def subtract(a: Spans, b: Spans) -> Spans:
    """What is in `a` and not in `b`."""
    if not len(a.start):
        return a
    between = Spans(np.append(0, b.end), np.append(b.start, a.end[-1]))
    kept = between.start < between.end
    return intersect(a, Spans(between.start[kept], between.end[kept]))
