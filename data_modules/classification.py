"""Labelled sequences in batches, for fine-tuning and evaluation.

Batches hold base codes, one byte a base; k-mers are made where the model is. Training order is a
function of (seed, epoch), so a resumed run goes on with the same batches. Evaluation batches are
sorted by length, so that little is padded; `index` says which example a row is.

A sequence that is longer than the model's positions is cut to its middle (`over: middle`: sites of
interest sit there), or taken as windows that overlap and cover it (`over: windows`): in training
one of them, drawn anew each epoch; in evaluation all, and `mean_over_windows` gives the mean of
their logits.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cmgems.downstream.labelled import Labelled, offsets_of
from cmgems.downstream.truncation import Rows, most_bases, rows_of
from cmgems.draws import stream
from cmgems.errors import UserError
from cmgems.kmers import AMBIGUOUS

OVER = ("middle", "windows")


class LabelledBatch(NamedTuple):
    """What the loader ships: B rows, longest first."""

    codes_BL: Tensor  # uint8 base codes, padded on the right with AMBIGUOUS
    bases: tuple[int, ...]  # length of each row
    labels: Tensor  # int64 [B] or [B, C], float32 [B] of regression
    index: Tensor  # int64 [B], number of the example in its split


def gather_rows(data: Labelled, rows: Rows, chosen: np.ndarray) -> LabelledBatch:
    """Copy rows out of the examples, longest first."""
    chosen = chosen[np.argsort(-rows.length[chosen], kind="stable")]
    lengths = rows.length[chosen]
    codes_BL = np.full((len(chosen), lengths[0]), AMBIGUOUS, np.uint8)
    for row, (start, length) in enumerate(
        zip(rows.start[chosen].tolist(), lengths.tolist(), strict=True)
    ):
        codes_BL[row, :length] = data.codes[start : start + length]
    example = rows.example[chosen]
    return LabelledBatch(
        torch.from_numpy(codes_BL),
        tuple(lengths.tolist()),
        torch.from_numpy(data.labels[example]),
        torch.from_numpy(example),
    )


class ClassificationDataModule(L.LightningDataModule):
    """Splits of a task, as batches for a model of k-mers.

    There is no test loader: what chooses a checkpoint must not be able to look at the test split.
    `evaluation_batches` takes any split, by whoever holds it. For one process: rows are not shared
    out among ranks.

    Parameters
    ----------
    train, dev : examples; dev None where the last epoch counts
    k, positions : of the model
    batch : sequences a step
    seed : of the order, and of the windows that are drawn
    over : see the top of this module
    evaluation_batch : rows of an evaluation batch, at most

    Raises
    ------
    UserError
        If a split has no example, or one that is shorter than k.
    """

    def __init__(
        self,
        train: Labelled,
        dev: Labelled | None,
        k: int,
        positions: int,
        batch: int,
        seed: int = 0,
        over: str = "middle",
        evaluation_batch: int = 256,
    ):
        super().__init__()
        self.train, self.dev = train, dev
        self.batch, self.seed = batch, seed
        self.evaluation_batch = evaluation_batch
        self.most, self.over = most_bases(positions, k), over
        for name, data in (("train", train), ("dev", dev)):
            if data is not None:
                refuse_unusable(name, data, k)

    def train_dataloader(self) -> DataLoader:
        order = EpochOrder(-(-len(self.train) // self.batch))
        return DataLoader(EpochBatches(self.epoch), batch_size=None, sampler=order)

    def val_dataloader(self) -> DataLoader | list:
        return [] if self.dev is None else DataLoader(self.evaluation_batches(self.dev), None)

    def epoch(self, number: int) -> "Batches":
        """The training batches of an epoch; the last one may be smaller."""
        key = stream(self.seed, f"examples of epoch {number}")
        generator = np.random.Generator(np.random.Philox(key=key))
        order = generator.permutation(len(self.train))
        rows = one_row_each(rows_of(self.train, self.most, self.over), generator)
        return Batches(self.train, rows, order, self.batch)

    def evaluation_batches(self, data: Labelled) -> "Batches":
        """All rows of a split, sorted by length."""
        rows = rows_of(data, self.most, self.over)
        return Batches(data, rows, np.argsort(-rows.length, kind="stable"), self.evaluation_batch)


def one_row_each(rows: Rows, generator: np.random.Generator) -> Rows:
    """One of the rows of each example, drawn."""
    counts = np.bincount(rows.example)
    chosen = offsets_of(counts)[:-1] + (generator.random(len(counts)) * counts).astype(np.int64)
    return Rows(*(column[chosen] for column in rows))


def refuse_unusable(name: str, data: Labelled, k: int) -> None:
    """A split without examples, or with a sequence that has no k-mer."""
    if not len(data):
        raise UserError(f"the {name} split has no examples, wanted at least one")
    short = np.flatnonzero(data.lengths < k)
    if len(short):
        raise UserError(
            f"example {short[0] + 1} of the {name} split has {data.lengths[short[0]]} bases, "
            f"wanted at least k = {k}"
        )


class Batches(Dataset):
    """Rows in a given order, `size` at a time."""

    def __init__(self, data: Labelled, rows: Rows, order: np.ndarray, size: int):
        self.data, self.rows, self.order, self.size = data, rows, order, size

    def __len__(self) -> int:
        return -(-len(self.order) // self.size)

    def __getitem__(self, number: int) -> LabelledBatch:
        if not 0 <= number < len(self):
            raise IndexError(number)
        chosen = self.order[number * self.size : (number + 1) * self.size]
        return gather_rows(self.data, self.rows, chosen)

    def __iter__(self) -> Iterator[LabelledBatch]:
        return (self[number] for number in range(len(self)))


class EpochOrder(Sampler[tuple[int, int]]):
    """(epoch, number of the batch) of each batch; Lightning calls `set_epoch` before each epoch."""

    def __init__(self, batches: int):
        self.batches, self.epoch = batches, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.epoch, number) for number in range(self.batches))


class EpochBatches(Dataset):
    """The batches of all epochs, by (epoch, number); the current epoch's order is held."""

    def __init__(self, epoch: Callable[[int], Batches]):
        self._epoch, self._held = epoch, (-1, None)

    def __getitem__(self, place: tuple[int, int]) -> LabelledBatch:
        epoch, number = place
        if self._held[0] != epoch:
            self._held = epoch, self._epoch(epoch)
        return self._held[1][number]
