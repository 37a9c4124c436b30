"""Sequences above the positions: cut to the middle, or covered by windows."""

import numpy as np
import pytest
import torch
from helpers.labelled_samples import random_sequences

from cmgems.genome.alphabet import encode_bases
from cmgems.tasks.dataset import pack_codes
from cmgems.tasks.truncation import make_rows, mean_over_windows
from cmgems.tokenization import OverlappingKmers


def test_a_long_sequence_is_cut_to_its_middle():
    (text,) = random_sequences(1, 301)
    data = pack_codes(map(encode_bases, [text, text[:50]]))
    most = OverlappingKmers(6).max_bases(64)
    assert OverlappingKmers(6).encode(torch.zeros(most, dtype=torch.uint8)).shape[-1] + 2 == 64
    rows = make_rows(data, most)
    assert rows.length.tolist() == [67, 50]
    assert rows.start.tolist() == [117, 301]
    assert pytest.approx(301 / 2, abs=0.5) == 117 + 67 / 2


@pytest.mark.parametrize("length", [10, 67, 68, 100, 300, 1000])
def test_windows_cover_a_long_sequence(length):
    data = pack_codes(map(encode_bases, [*random_sequences(1, length), "ACGTACGT"]))
    rows = make_rows(data, 67, "windows")
    of_first = rows.example == 0
    covered = np.zeros(length, int)
    for start, size in zip(rows.start[of_first], rows.length[of_first], strict=True):
        assert size == min(67, length)
        covered[start : start + size] += 1
    assert covered.min() == 1
    starts = rows.start[of_first]
    assert (np.diff(starts) <= 51).all()  # they overlap by a quarter or more
    assert of_first.sum() == 1 if length <= 67 else of_first.sum() <= 2 + (length - 67) / 50
    assert (rows.start[-1], rows.length[-1]) == (length, 8)


def test_the_mean_over_windows():
    logits = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]], dtype=torch.float64)
    index = torch.tensor([1, 1, 0])
    assert mean_over_windows(logits, index, 2).tolist() == [[5.0, 5.0], [2.0, 1.0]]
