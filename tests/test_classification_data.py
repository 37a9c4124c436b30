"""Labelled batches: every example once, longest first, cut or in windows above the positions."""

import numpy as np
import pytest
import torch
from labelled_samples import random_sequences

from cmgems.data_modules.classification import ClassificationDataModule
from cmgems.downstream.labelled import from_sequences
from cmgems.errors import UserError
from cmgems.kmers import AMBIGUOUS


@pytest.fixture(scope="module")
def examples():
    lengths = np.random.default_rng(0).integers(6, 120, 101)
    found = [random_sequences(1, int(n), seed=i)[0] for i, n in enumerate(lengths)]
    return from_sequences(found, np.arange(101) % 2)


def module(examples, **changes):
    settings = {"k": 6, "positions": 512, "batch": 8, "seed": 3}
    return ClassificationDataModule(examples, examples, **{**settings, **changes})


def contents(batches):
    """{example: (codes, label)} of batches, each example once."""
    found = {}
    for batch in batches:
        for row, (bases, number) in enumerate(zip(batch.bases, batch.index.tolist(), strict=True)):
            assert number not in found
            assert (batch.codes_BL[row, bases:] == AMBIGUOUS).all()
            found[number] = (batch.codes_BL[row, :bases].tolist(), int(batch.labels[row]))
    return found


def test_each_example_once_and_as_it_is(examples):
    expected = {i: (examples.sequence(i).tolist(), i % 2) for i in range(101)}
    data = module(examples)
    assert contents(data.epoch(0)) == expected
    assert contents(data.evaluation_batches(examples)) == expected
    assert [len(batch.bases) for batch in data.epoch(0)] == [8] * 12 + [5]
    for batch in data.epoch(0):
        assert list(batch.bases) == sorted(batch.bases, reverse=True)


def test_evaluation_pads_little(examples):
    batches = list(module(examples, evaluation_batch=16).evaluation_batches(examples))
    lengths = [bases for batch in batches for bases in batch.bases]
    assert lengths == sorted(lengths, reverse=True)
    assert sum(b.codes_BL.numel() for b in batches) < 1.15 * sum(lengths)


def test_the_order_is_a_function_of_seed_and_epoch(examples):
    def order(data, epoch):
        return [batch.index.tolist() for batch in data.epoch(epoch)]

    data = module(examples)
    assert order(data, 2) == order(module(examples), 2)
    assert order(data, 2) != order(data, 3)
    assert order(data, 2) != order(module(examples, seed=4), 2)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_lightning_gets_another_order_each_epoch_and_no_test_split(examples):
    import lightning as L

    seen = []

    class Probe(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch, number):
            seen.append((self.current_epoch, batch.index.tolist()))
            return self.weight.sum()

        def validation_step(self, batch, number):
            raise AssertionError("not asked for")

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data = module(examples)
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(Probe(), datamodule=data)
    for epoch in (0, 1):
        expected = [batch.index.tolist() for batch in data.epoch(epoch)]
        assert [index for number, index in seen if number == epoch] == expected
    assert type(data).test_dataloader is L.LightningDataModule.test_dataloader


def test_training_takes_one_window_of_each_sequence():
    data = from_sequences(random_sequences(30, 300), np.arange(30) % 2)
    loader = module(data, positions=64, over="windows")
    starts = set()
    for epoch in range(60):
        found = contents(loader.epoch(epoch))
        assert sorted(found) == list(range(30))
        starts.add(tuple(found[0][0]))
    assert len(starts) == 6  # all windows of the first sequence come up
    windows = [n for batch in loader.evaluation_batches(data) for n in batch.index.tolist()]
    assert np.bincount(windows).tolist() == [6] * 30


def test_what_a_model_cannot_take():
    short = from_sequences(["ACGTACGT", "ACGTA"], np.array([0, 1]))
    with pytest.raises(UserError) as caught:
        module(short)
    assert str(caught.value) == ("example 2 of the train split has 5 bases, wanted at least k = 6")
    with pytest.raises(UserError, match="the train split has no examples"):
        module(short.take([]))
