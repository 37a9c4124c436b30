"""Batches for classifiers: every example once, in an order of the seed, little padding."""

import numpy as np
import pytest
import torch
from helpers.labelled_samples import random_sequences

from cmgems.data_modules.classification import (
    ClassificationDataModule,
    EvaluationData,
    Examples,
    TrainData,
    evaluation_loader,
)
from cmgems.errors import UserError
from cmgems.genome.alphabet import encode_bases
from cmgems.tasks.dataset import pack_codes
from cmgems.tasks.tokens import tokenize
from cmgems.tokenization import OverlappingKmers
from cmgems.tokenization.base import PAD

COUNT, SEEDS = 101, [3, 8]


@pytest.fixture(scope="module")
def tokens():
    lengths = np.random.default_rng(0).integers(6, 120, COUNT)
    texts = [random_sequences(1, int(n), seed=i)[0] for i, n in enumerate(lengths)]
    return tokenize(pack_codes(map(encode_bases, texts)), OverlappingKmers(6), 512)


@pytest.fixture(scope="module")
def examples(tokens):
    """Hidden states that are functions of the example and the token."""
    width = tokens.ids_NL.shape[1]
    states = torch.arange(COUNT)[:, None] * 1000.0 + torch.arange(width)
    return Examples(tokens, states[..., None])


def module(examples, seeds=SEEDS, batch_size=8):
    index = np.stack([np.arange(COUNT), np.arange(COUNT)[::-1]])[: len(seeds)]
    labels = torch.arange(COUNT) % 2
    train = TrainData(examples, labels, index, seeds)
    return ClassificationDataModule(train, batch_size, EvaluationData(examples, labels))


def epoch(data, number):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    return list(loader)


def order(data, number):
    return torch.cat([batch.rows for batch in epoch(data, number)], 1).tolist()


def is_as_in_the_table(batch, examples):
    """Tokens, states and labels of rows of any shape."""
    for index in np.ndindex(*batch.rows.shape):
        row, tokens = int(batch.rows[index]), batch.examples.tokens
        length = int(tokens.lengths_N[index])
        assert length == int(examples.tokens.lengths_N[row])
        wanted = examples.tokens.ids_NL[row, :length]
        assert torch.equal(tokens.ids_NL[index][:length], wanted)
        assert (tokens.ids_NL[index][length:] == PAD).all()
        assert torch.equal(
            batch.examples.hidden_states[index][:length], examples.hidden_states[row, :length]
        )
        assert int(batch.labels[index]) == row % 2


def test_each_classifier_gets_each_of_its_examples_once_and_as_it_is(examples):
    batches = epoch(module(examples), 0)
    assert [batch.rows.shape for batch in batches] == [(2, 8)] * 12 + [(2, 5)]
    for batch in batches:
        is_as_in_the_table(batch, examples)
        tokens = batch.examples.tokens
        assert tokens.ids_NL.shape[-1] == int(tokens.lengths_N.max())
    for rows in order(module(examples), 0):
        assert sorted(rows) == list(range(COUNT))


def test_evaluation_takes_each_example_once_and_pads_little(tokens, examples):
    batches = list(module(examples).val_dataloader())
    for batch in batches:
        is_as_in_the_table(batch, examples)
    rows = torch.cat([batch.rows for batch in batches])
    assert sorted(rows.tolist()) == list(range(COUNT))
    lengths = tokens.lengths_N[rows].tolist()
    assert lengths == sorted(lengths, reverse=True)
    assert sum(b.examples.tokens.ids_NL.numel() for b in batches) < 1.4 * sum(lengths)


def test_the_order_is_a_function_of_seed_and_epoch(examples):
    data = module(examples)
    assert order(data, 2) == order(module(examples), 2)
    assert order(data, 2) != order(data, 3)
    # whatever is trained next to it
    assert order(data, 2)[0] == order(module(examples, seeds=[3]), 2)[0]
    assert order(data, 2)[0] != order(module(examples, seeds=[4]), 2)[0]


def test_loaders_leave_the_global_generator_alone(examples):
    data = module(examples)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(data.train_dataloader())
    list(data.val_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_lightning_gets_another_order_each_epoch_and_no_test_split(examples):
    import lightning as L

    seen = []

    class Probe(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch, number):
            seen.append((self.current_epoch, batch.rows))
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
    for number in (0, 1):
        seen_rows = torch.cat([rows for epoch, rows in seen if epoch == number], 1)
        assert seen_rows.tolist() == order(data, number)
    assert type(data).test_dataloader is L.LightningDataModule.test_dataloader


def test_without_labels_and_without_dev(tokens):
    (batch, *_) = evaluation_loader(EvaluationData(Examples(tokens)))
    assert batch.labels is None
    assert batch.examples.hidden_states is None
    index = np.arange(4)[None]
    data = ClassificationDataModule(TrainData(Examples(tokens), torch.zeros(4), index, [0]), 2)
    assert data.val_dataloader() == []


def test_nothing_to_train_on_is_refused(tokens):
    nothing = TrainData(Examples(tokens), torch.zeros(0), np.zeros((1, 0), np.int64), [0])
    with pytest.raises(UserError, match="the train split has no examples"):
        ClassificationDataModule(nothing, 2)
