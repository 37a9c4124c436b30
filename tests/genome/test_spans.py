"""Stretches of known bases, and their split into training and validation."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems.genome import spans as spans_module
from cmgems.genome.spans import Spans, split_spans, unambiguous_spans


def slow_spans(codes):
    spans, start = [], None
    for position, code in enumerate([*codes, 4]):
        if code < 4 and start is None:
            start = position
        if code >= 4 and start is not None:
            spans.append((start, position))
            start = None
    return spans


@given(st.lists(st.integers(0, 4), max_size=200), st.integers(1, 60))
@settings(deadline=None)
def test_spans_equal_the_slow_ones_for_any_block(codes, block):
    codes = np.array(codes, np.uint8)
    original, spans_module.SCAN_BLOCK = spans_module.SCAN_BLOCK, block
    try:
        spans = unambiguous_spans(codes)
    finally:
        spans_module.SCAN_BLOCK = original
    assert list(zip(spans.start.tolist(), spans.end.tolist(), strict=True)) == slow_spans(codes)


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=20),
    st.sampled_from([0.05, 0.1, 0.3, 0.5]),
    st.integers(3, 50),
)
def test_split_covers_everything_once(sizes, fraction, block):
    edges = np.cumsum(sizes)
    spans = Spans(edges[0:-1:2], edges[1::2])
    train, held_out = split_spans(spans, fraction, block)
    covered = np.zeros(edges[-1] + 1, int)
    for part in (train, held_out):
        for start, end in zip(part.start, part.end, strict=True):
            assert start < end
            covered[start:end] += 1
    wanted = np.zeros_like(covered)
    for start, end in zip(spans.start, spans.end, strict=True):
        wanted[start:end] = 1
    assert (covered == wanted).all()


def test_split_has_the_wanted_fraction_and_no_seed():
    spans = Spans(np.array([0]), np.array([10_000_000]))
    train, held_out = split_spans(spans, 0.05, 100_000)
    assert held_out.bases == 500_000
    assert train.bases == 9_500_000
    assert held_out.start[0] == 1_900_000
