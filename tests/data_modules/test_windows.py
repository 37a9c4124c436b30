"""The sampling of windows, and their stream."""

import numpy as np
import pytest

from cmgems.data_modules import sampling
from cmgems.data_modules.sampling import GenomeShare, WindowSampling, sample_epoch
from cmgems.data_modules.windows import WindowStream, balance_by_length
from cmgems.genome.spans import Spans, unambiguous_spans
from cmgems.utils.rng import derive_key

SAMPLING = WindowSampling(full_length=50, min_length=6, full_length_fraction=0.5)


def test_windows_are_consecutive_and_within_spans():
    spans = Spans(np.array([10, 5000, 9000]), np.array([4000, 5004, 60_000]))
    sampled = sample_epoch(spans, SAMPLING, seed=1, epoch=0)
    order = np.argsort(sampled.start)
    start, end = sampled.start[order], (sampled.start + sampled.length)[order]
    assert (start[1:] >= end[:-1]).all()
    owner = np.searchsorted(spans.start, start, side="right") - 1
    assert (end <= spans.end[owner]).all()
    assert 1 not in owner  # 4 bases are too short for any window
    assert sampled.length.sum() >= spans.bases - 3 * SAMPLING.min_length
    assert not np.array_equal(order, np.arange(len(order)))  # shuffled


def test_lengths_have_dnaberts_mix():
    sampled = sample_epoch(
        Spans(np.array([0]), np.array([3_000_000])), WindowSampling(510, 6, 0.5), 0, 0
    )
    assert (sampled.length == 510).mean() == pytest.approx(0.5, abs=0.015)
    shorter = sampled.length[sampled.length < 510]
    counts = np.histogram(shorter, 8, (6, 510))[0]
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 24.3  # 7 degrees, p = 0.001


@pytest.fixture(scope="module")
def codes():
    return np.random.default_rng(0).integers(0, 4, 20_000).astype(np.uint8)


def make_stream(codes, seed=0):
    return WindowStream(codes, [GenomeShare(unambiguous_spans(codes))], SAMPLING, seed)


def test_windows_are_a_function_of_their_number(codes):
    """In any order, across epochs, in any batch size."""
    ahead = make_stream(codes)
    all_windows = ahead.windows(0, 2000)  # some epochs of about 530 windows
    again = make_stream(codes)
    for first, count in [(1500, 10), (3, 7), (520, 40), (1990, 10), (0, 1)]:
        part = again.windows(first, count)
        assert np.array_equal(part.start, all_windows.start[first : first + count])
        assert np.array_equal(part.length, all_windows.length[first : first + count])


def test_an_epoch_holds_every_base_about_once(codes):
    first = sample_epoch(unambiguous_spans(codes), SAMPLING, 0, 0)
    count = len(first.start)
    sampled = make_stream(codes).windows(0, count)
    covered = np.zeros(len(codes), int)
    for start, length in zip(sampled.start, sampled.length, strict=True):
        covered[start : start + length] += 1
    assert covered.max() == 1
    assert covered.sum() > len(codes) - SAMPLING.min_length
    next_epoch = make_stream(codes).windows(count, count)
    assert not np.array_equal(next_epoch.start, sampled.start)


def test_batch_holds_the_bases_and_longest_first(codes):
    batch = make_stream(codes).batch(5, 20)
    sampled = make_stream(codes).windows(5, 20)
    assert sorted(batch.bases, reverse=True) == list(batch.bases)
    rows = {tuple(row[:n].tolist()) for row, n in zip(batch.codes_BL, batch.bases, strict=True)}
    wanted = {
        tuple(codes[s : s + n].tolist()) for s, n in zip(sampled.start, sampled.length, strict=True)
    }
    assert rows == wanted
    for row, n in zip(batch.codes_BL, batch.bases, strict=True):
        assert (row[n:] == 4).all()


def test_micro_batches_divide_the_windows_of_a_step_and_their_bases():
    """DNABERT's lengths: 64 micro-batches of 32 windows differ by less than one in a hundred."""
    sampled = sample_epoch(
        Spans(np.array([0]), np.array([3_000_000])), WindowSampling(510, 6, 0.5), 0, 0
    )
    lengths = sampled.length[: 64 * 32]
    assignment = balance_by_length(lengths, 64)
    assert sorted(assignment.flatten().tolist()) == list(range(64 * 32))
    bases = lengths[assignment].sum(1)
    assert bases.max() < 1.01 * bases.mean()
    in_turns = lengths.reshape(64, 32).sum(1)
    assert in_turns.max() > 1.1 * in_turns.mean()


@pytest.mark.parametrize("num_micro_batches", [1, 2, 5])
def test_a_micro_batch_has_the_keys_of_its_windows(codes, num_micro_batches):
    all_windows = make_stream(codes).batch(30, 20)
    by_key = dict(
        zip(map(tuple, all_windows.keys_B2.tolist()), all_windows.codes_BL.tolist(), strict=True)
    )
    seen = []
    for micro_batch_index in range(num_micro_batches):
        part = make_stream(codes).batch(30, 20, micro_batch_index, num_micro_batches)
        assert len(part.bases) == 20 // num_micro_batches
        for key, row in zip(map(tuple, part.keys_B2.tolist()), part.codes_BL.tolist(), strict=True):
            assert row == by_key[key]
            seen.append(key)
    assert sorted(seen) == sorted(by_key)


def test_micro_batches_at_the_end_of_an_epoch_cut_no_epoch_twice(codes, monkeypatch):
    cuts = []
    cut = sampling.sample_epoch
    monkeypatch.setattr(sampling, "sample_epoch", lambda *of: cuts.append(of[-1]) or cut(*of))
    stream = make_stream(codes)
    epoch = len(sample_epoch(unambiguous_spans(codes), SAMPLING, 0, 0).start)
    for micro_batch_index in range(4):
        stream.batch(epoch - 10, 20, micro_batch_index, 4)
    assert cuts == [0, 1]


def test_seeds_differ(codes):
    first, second = make_stream(codes, 0).windows(0, 50), make_stream(codes, 1).windows(0, 50)
    assert not np.array_equal(first.start, second.start)
    assert derive_key(0, "masks") != derive_key(1, "masks")
