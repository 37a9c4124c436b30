"""The windows of an experiment as plain examples, for training loops other than ours."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from cmgems.config.schema import Experiment
from cmgems.data_modules.pretraining import GenomeDataModule
from cmgems.genome.alphabet import BASES, reverse_complement
from cmgems.genome.genome import Genome

_LETTERS = np.frombuffer((BASES + "N").encode(), np.uint8)
_WINDOWS_AT_A_TIME = 256


class TrainingWindows(IterableDataset):
    """The endless stream of training windows: window `number` n is the same in every pass.

    An example is `{"sequence": text in upper case, "number": n}`. With byte pairs a run of ours
    cuts its windows between tokens, which this stream does not.

    Parameters
    ----------
    experiment : its genome, regions, window lengths, strands and seed say which windows
    genome : the one that the experiment names
    batch_size : windows that a worker of a DataLoader takes in a row. With that of the DataLoader
        (times the number of processes, if each takes a part of every worker's stream), batches are
        the same with any number of workers.
    start : number of the first window
    """

    def __init__(self, experiment: Experiment, genome: Genome, batch_size: int, start: int) -> None:
        super().__init__()
        self.experiment, self.genome = experiment, genome
        self.batch_size, self.start = batch_size, start

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        index, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        data = GenomeDataModule(self.experiment, self.genome)
        first = self.start + index * self.batch_size
        while True:
            for begin in range(first, first + self.batch_size, _WINDOWS_AT_A_TIME):
                count = min(_WINDOWS_AT_A_TIME, first + self.batch_size - begin)
                yield from _examples(data, begin, count)
            first += workers * self.batch_size


def validation_windows(experiment: Experiment, genome: Genome) -> list[dict[str, Any]]:
    """The windows that runs of the experiment are validated on, `{"sequence": text}` each."""
    data = GenomeDataModule(experiment, genome)
    windows = zip(*data.validation_windows, strict=True)
    return [{"sequence": _text(data.codes[start : start + length])} for start, length in windows]


def _examples(data: GenomeDataModule, first: int, count: int) -> Iterator[dict[str, Any]]:
    stream = data.windows
    windows, numbers = stream.windows(first, count), np.arange(first, first + count)
    is_reverse = stream.is_reverse(numbers)
    for row, (start, length) in enumerate(zip(*windows, strict=True)):
        codes = stream.codes[start : start + length]
        if is_reverse is not None and is_reverse[row]:
            codes = reverse_complement(codes)
        yield {"sequence": _text(codes), "number": first + row}


def _text(codes: np.ndarray) -> str:
    return bytes(_LETTERS[codes]).decode()
