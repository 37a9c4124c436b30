"""Labelled examples in batches, for the training and the evaluation of classifiers.

The sequences are a table of tokens that is made once. G classifiers are trained on it side by side
(G may be 1): each has its own examples, which are rows of the table, and its own order of them. The
order is a function of (seed, epoch), so the seed alone repeats a training. Evaluation batches hold
sequences of similar length, the longest first, so that there is little padding.

Shapes: G classifiers, B sequences, L tokens, N examples, C classes, D width.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cmgems.errors import UserError
from cmgems.tasks.tokens import Tokens, batches
from cmgems.utils.rng import derive_key, sequence_keys


class Examples(NamedTuple):
    """N sequences, and with a frozen encoder the reduced hidden states of each."""

    tokens: Tokens
    hidden_states: Tensor | None = None  # [N, P, D]

    def select(self, index: Tensor) -> "Examples":
        """Those at `index` (any shape)."""
        tokens = self.tokens.select(index)
        states = None if self.hidden_states is None else self.hidden_states[index]
        if states is not None and states.shape[-2] > 1:
            states = states[..., : tokens.ids_NL.shape[-1], :]
        return Examples(tokens, states)


class TrainData(NamedTuple):
    """What G classifiers train on."""

    examples: Examples  # the table
    targets: Tensor  # of the whole table: int64 [N], float [N] or [N, C]
    index_GN: np.ndarray  # int64: the rows that each classifier trains on
    seeds: Sequence[int]  # G, of the order


class EvaluationData(NamedTuple):
    """What all classifiers predict; without labels where only the logits are wanted."""

    examples: Examples
    labels: Tensor | None = None  # [N] or [N, C]


class Batch(NamedTuple):
    """B examples of each of G classifiers [G, B, ...]; in evaluation B for all of them [B, ...]."""

    examples: Examples
    labels: Tensor | None
    rows: Tensor  # int64, their numbers in the table


class ClassificationDataModule(L.LightningDataModule):
    """The batches of a task, for heads that are trained on it.

    There is no test loader: what chooses an epoch must not be able to look at the test split.
    `evaluation_loader` takes any examples. For one process: batches are not divided among ranks.

    Parameters
    ----------
    train : examples, targets and order
    batch_size : examples of each classifier per step
    dev : None where the last epoch counts

    Raises
    ------
    UserError
        If there is nothing to train on.
    """

    def __init__(
        self, train: TrainData, batch_size: int, dev: EvaluationData | None = None
    ) -> None:
        super().__init__()
        if not train.index_GN.size:
            raise UserError("the train split has no examples, wanted at least one")
        self.train, self.batch_size, self.dev = train, batch_size, dev

    def train_dataloader(self) -> DataLoader:
        """Each epoch has its own order; the last batch may be smaller."""
        order = EpochOrder(-(-self.train.index_GN.shape[1] // self.batch_size))
        return _loader(TrainBatches(self.train, self.batch_size), order)

    def val_dataloader(self) -> DataLoader | list:
        """The dev split; no loader where there is none."""
        return [] if self.dev is None else evaluation_loader(self.dev)


def evaluation_loader(data: EvaluationData) -> DataLoader:
    """Each example once, sequences of similar length together."""
    return _loader(EvaluationBatches(data))


def _loader(data: Dataset, sampler: Sampler | None = None) -> DataLoader:
    # With its own generator: without it a loader draws from torch's global generator in each epoch.
    return DataLoader(data, batch_size=None, sampler=sampler, generator=torch.Generator())


class TrainBatches(Dataset):
    """The batches of all epochs, by (epoch, number); the current epoch's order is cached."""

    def __init__(self, data: TrainData, size: int) -> None:
        self.data, self.size = data, size
        self._epoch, self._order_GN = -1, np.empty(0)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        epoch, number = key
        if epoch != self._epoch:
            self._epoch, self._order_GN = epoch, shuffle_for_epoch(self.data, epoch)
        order_GB = self._order_GN[:, number * self.size : (number + 1) * self.size]
        rows = torch.from_numpy(order_GB)
        return Batch(self.data.examples.select(rows), self.data.targets[rows], rows)


def shuffle_for_epoch(data: TrainData, epoch: int) -> np.ndarray:
    """int64 [G, N]: the rows of each classifier, in the order of this epoch."""
    pairs = zip(data.index_GN, data.seeds, strict=True)
    return np.stack([_shuffled(index, seed, epoch) for index, seed in pairs])


def _shuffled(index: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    keys = sequence_keys(derive_key(seed, f"order of epoch {epoch}"), np.arange(len(index)))
    return index[np.argsort(keys.view(np.uint64)[:, 0], kind="stable")]


class EpochOrder(Sampler[tuple[int, int]]):
    """(epoch, number) of each batch; a training loop calls `set_epoch` first, as Lightning does."""

    def __init__(self, batches: int) -> None:
        self.batches, self.epoch = batches, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.epoch, number) for number in range(self.batches))


class EvaluationBatches(Dataset):
    """The examples sorted by length."""

    def __init__(self, data: EvaluationData) -> None:
        self.data, self.parts = data, batches(data.examples.tokens)

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> Batch:
        rows, labels = self.parts[number], self.data.labels
        return Batch(
            self.data.examples.select(rows), None if labels is None else labels[rows], rows
        )
