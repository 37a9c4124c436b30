"""The windows of a run: those of validation by rank, and those that it was trained on."""

import numpy as np
import pytest
import torch
from helpers.paths import EXPERIMENTS

from cmgems.data_modules.pretraining import (
    AheadOfTime,
    GenomeDataModule,
    MicroBatchDataset,
    ValidationWindows,
)
from cmgems.runs.experiment import load


def data_module(genome, *overrides):
    path = EXPERIMENTS / "pretrain/random.yaml"
    return GenomeDataModule(load(path, ["optim.warmup_steps=1", *overrides]), genome)


def test_windows_of_the_end_begin_with_those_of_the_curves(genome):
    data = data_module(genome, "validation.windows=20", "validation.final_windows=50")
    assert len(data.validation_windows.start) == 20
    assert np.array_equal(data.final_windows.start[:20], data.validation_windows.start)
    assert len(data.final_windows.start) == 50


def test_there_are_at_most_the_windows_that_the_regions_hold(genome):
    data = data_module(genome)
    spans, windows = data.validation_spans, data.final_windows
    assert 400 < len(windows.start) < 4096
    assert windows.length.sum() <= spans.bases
    assert windows.length.sum() > 0.99 * spans.bases


@pytest.mark.parametrize(("count", "ranks"), [(40, 1), (33, 2), (32, 2), (50, 3), (49, 3), (97, 3)])
def test_ranks_have_as_many_batches_and_part_the_windows(count, ranks, genome):
    """33 windows of two ranks: 17 and 16, of which the latter would fill a single batch."""
    data = data_module(genome, f"validation.windows={count}")
    whole = ValidationWindows(data.codes, data.validation_windows, 0, 1)
    parts = [ValidationWindows(data.codes, data.validation_windows, r, ranks) for r in range(ranks)]
    assert len({len(part) for part in parts}) == 1

    def rows(dataset):
        batches = [dataset[number] for number in range(len(dataset))]
        assert all(1 <= len(batch.bases) <= dataset.SIZE for batch in batches)
        keys = [tuple(key) for batch in batches for key in batch.keys_B2.tolist()]
        bases = [count for batch in batches for count in batch.bases]
        return list(zip(keys, bases, strict=True))

    assert sorted(row for part in parts for row in rows(part)) == sorted(rows(whole))
    assert len(rows(whole)) == count
    for rank, part in enumerate(parts):  # the order in which the judge puts them together
        assert np.array_equal(part.order, whole.order[rank::ranks])
        assert rows(part) == rows(whole)[rank::ranks]


def test_the_windows_trained_on_are_those_of_all_micro_batches(genome, monkeypatch):
    monkeypatch.setattr("cmgems.data_modules.pretraining._WINDOWS_AT_A_TIME", 7)
    sizes = ["train.global_batch_size=6", "train.micro_batch_size=2", "train.max_steps=5"]
    data = data_module(genome, *sizes, "validation.every_n_steps=5", "data.window_length=64")
    batches = MicroBatchDataset(data.windows, 6, 2, rank=0, ranks=1)
    seen = []
    for number in range(5 * 3):
        batch = batches[number]
        seen += [row[:n].tolist() for row, n in zip(batch.codes_BL, batch.bases, strict=True)]
    claimed = []
    for part in data.trained_on():
        claimed += [data.codes[a:b].tolist() for a, b in zip(part.start, part.end, strict=True)]
    assert sorted(claimed) == sorted(seen)
    assert len(seen) == 30


def test_epochs_of_a_small_genome_are_counted_as_often_as_they_are_seen(genome):
    sizes = ["train.global_batch_size=10", "train.micro_batch_size=10", "train.max_steps=3000"]
    data = data_module(genome, *sizes, "validation.every_n_steps=3000")
    total = sum(part.bases for part in data.trained_on())
    assert total > 2.5 * data.train_spans.bases  # 30,000 windows of an epoch of some 10,000


def test_micro_batches_gathered_ahead_of_time_are_the_same(genome):
    """One after the other, as after a resume, and at the end of the run."""
    windows = data_module(genome).windows
    plain, ahead = (MicroBatchDataset(windows, 6, 2, rank=0, ranks=1) for _ in range(2))
    ahead = AheadOfTime(ahead)
    for number in (0, 1, 2, 3, 11, 12, 4):
        batch = ahead[number]
        assert batch.starts == plain[number].starts
        assert np.array_equal(batch.keys_B2, plain[number].keys_B2)
        assert np.array_equal(batch.codes_BL, plain[number].codes_BL)
    assert 0 < ahead.seconds < 60


def test_only_tensors_move_to_the_device(genome):
    batch = data_module(genome).windows.batch(0, 4)
    there = batch.to(torch.device("meta"))
    assert {there.codes_BL.device.type, there.keys_B2.device.type, there.bases_B.device.type} == {
        "meta"
    }
    assert there.bases is batch.bases
    assert there.starts is batch.starts
