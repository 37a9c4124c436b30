"""Genome windows for pretraining, as uint8 base codes.

The loader knows nothing of masks and keeps no state: micro-batch number n holds the same windows
whatever came before, so a resumed run needs no position saved, and a run on another number of
ranks sees the same windows in the same steps.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cmgems.config.encoders import max_positions
from cmgems.config.schema import Experiment, Masking
from cmgems.data_modules.sampling import (
    GenomeShare,
    Windows,
    WindowSampling,
    sample_mixed_epoch,
    sample_windows,
)
from cmgems.data_modules.split import GenomePart, join_splits, split_genomes
from cmgems.data_modules.token_store import cut_between_tokens, open_tokens
from cmgems.data_modules.windows import WindowBatch, WindowStream, collate, with_tokens
from cmgems.difficulty.repeats import genome_repeats
from cmgems.errors import UserError
from cmgems.genome.genome import Genome
from cmgems.genome.spans import Spans
from cmgems.tokenization import BytePairs, build_tokenization
from cmgems.utils.rng import derive_key, sequence_keys

VALIDATION_SEED = 0  # all runs on a genome are validated on the same windows and masks
_WINDOWS_AT_A_TIME = 1 << 18  # of those that a run was trained on
IsRepeat = Callable[[int, int], np.ndarray]  # start and length of a stretch -> bool [length]


class GenomeDataModule(L.LightningDataModule):
    """Training and validation windows of a genome or several, from regions that never overlap.

    Parameters
    ----------
    experiment : Experiment
    genome : Genome
        The one that the experiment names (`cmgems.genome.joined.load_pretraining_genome`).

    Attributes
    ----------
    parts : tuple of GenomePart
        The genomes, if there are several, in the order of their codes.

    Raises
    ------
    UserError
        If a genome is too small for a window of training or of validation.
    """

    trainer: L.Trainer  # Lightning sets it before it asks for a loader
    _training_windows: "MicroBatchDataset | AheadOfTime"

    def __init__(self, experiment: Experiment, genome: Genome):
        super().__init__()
        data, train = experiment.data, experiment.train
        self.genome, self.codes = genome, genome.codes
        self.tokenization = build_tokenization(data)
        self.positions = max_positions(experiment.model)
        if isinstance(self.tokenization, BytePairs):
            self.token_store = open_tokens(genome, self.tokenization)
        self.global_batch_size = train.global_batch_size
        self.micro_batch_size = train.micro_batch_size
        self.max_steps = train.max_steps
        sampling = WindowSampling(
            data.window_length, data.min_window_length, data.full_length_fraction
        )
        self.parts = split_genomes(data, genome)
        self.split = join_splits([part.split for part in self.parts])
        self.train_spans, self.validation_spans = self.split.training, self.split.validation
        for part in self.parts:
            _check_length(part, data.window_length)
        self.training = [GenomeShare(part.split.training, part.share) for part in self.parts]
        validation = [GenomeShare(part.split.validation, part.share) for part in self.parts]
        self.windows = WindowStream(
            self.codes, self.training, sampling, experiment.seed, data.strands == "both"
        )
        sampled = sample_mixed_epoch(validation, sampling, VALIDATION_SEED)
        self.validation_windows = sampled.first(experiment.validation.windows)
        self.final_windows = sampled.first(experiment.validation.final_windows)
        self.is_repeat = _find_repeats(experiment.masking, genome)
        self.judge_windows = self.final_windows.first(experiment.validation.judge_windows)
        self.is_final = False  # whether a validation is that of the final windows

    def state_dict(self) -> dict[str, Any]:
        return {"split": self.split.sha256}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuse to resume on other stretches of the genome than the run began with.

        Raises
        ------
        UserError
        """
        if state["split"] != self.split.sha256:
            raise UserError(
                "data.regions, data.exclude: their files have changed since the run began, wanted "
                "the same stretches of the genome"
            )

    @property
    def micro_batches_per_step(self) -> int:
        """Micro-batches of a rank in an optimizer step."""
        return self.global_batch_size // (self.micro_batch_size * self.trainer.world_size)

    def train_dataloader(self) -> DataLoader:
        total = self.max_steps * self.micro_batches_per_step
        start = self.trainer.global_step * self.micro_batches_per_step
        rank, ranks = self.trainer.global_rank, self.trainer.world_size
        windows = MicroBatchDataset(
            self.windows, self.global_batch_size, self.micro_batch_size, rank, ranks
        )
        on_gpu = self.trainer.strategy.root_device.type == "cuda"
        self._training_windows = AheadOfTime(windows) if on_gpu else windows
        return DataLoader(
            self._training_windows, batch_size=None, sampler=ResumableSampler(start, total)
        )

    @property
    def loading_seconds(self) -> float:
        """The time that training has waited for windows, since the last resume."""
        return self._training_windows.seconds

    def val_dataloader(self) -> DataLoader:
        rank, ranks = self.trainer.global_rank, self.trainer.world_size
        windows = self.final_windows if self.is_final else self.validation_windows
        return DataLoader(ValidationWindows(self.codes, windows, rank, ranks), batch_size=None)

    def trained_on(self) -> Iterator[Spans]:
        """The windows of the whole run, in parts, each window as often as it is drawn.

        They are drawn anew, not from the stream that training draws from: that one stays in the
        epoch where it is.
        """
        stream = WindowStream(self.codes, self.training, self.windows.sampling, self.windows.seed)
        total = self.max_steps * self.global_batch_size
        for first in range(0, total, _WINDOWS_AT_A_TIME):
            part = stream.windows(first, min(_WINDOWS_AT_A_TIME, total - first))
            yield Spans(part.start, part.start + part.length)

    def on_before_batch_transfer(self, batch: WindowBatch, dataloader_idx: int) -> WindowBatch:
        """Encode what the device cannot, into rows as wide as those of any other batch; look up
        which bases are in repeats, if the loss weighs them."""
        columns = self.tokenization.max_tokens(batch.codes_BL.shape[1]) - 2
        if isinstance(self.tokenization, BytePairs):
            columns = min(columns, self.positions - 2)
            batch = cut_between_tokens(
                batch, self.codes, self.tokenization, self.token_store, columns
            )
        if self.is_repeat is not None:
            batch = batch._replace(in_repeat_BL=_in_repeat(batch, self.is_repeat))
        return with_tokens(batch, self.tokenization, columns)

    def corpus(self, count: int, length: int) -> np.ndarray:
        """Base codes [count, length] of training windows, to measure masks on; always the same."""
        return sample_windows(self.codes, self.training, count, length)


def _find_repeats(masking: Masking, genome: Genome) -> IsRepeat | None:
    """Which bases the loss weighs as repeats; None where it weighs all alike."""
    if masking.repeat_weight == 1.0:
        return None
    if masking.repeats == "copies":
        return genome_repeats(genome).holds
    if not genome.soft_masked:
        raise UserError(
            f"masking.repeats: found soft_mask, but {genome.name} has no soft-masked bases; wanted "
            "copies, or a store with them: cmgems genome SOURCE --repeats FILE --out DIR"
        )
    return lambda start, length: genome.soft_mask(start, start + length)


def _in_repeat(batch: WindowBatch, is_repeat: IsRepeat) -> Tensor:
    """bool [B, L]: whether each base is in a repeat; False behind the end of a window."""
    in_repeat_BL = np.zeros(batch.codes_BL.shape, bool)
    for row, (start, bases) in enumerate(zip(batch.starts, batch.bases, strict=True)):
        held = is_repeat(start, bases)
        in_repeat_BL[row, :bases] = held[::-1] if batch.is_reverse(row) else held
    return torch.from_numpy(in_repeat_BL)


def _check_length(part: GenomePart, window_length: int) -> None:
    """Refuse a genome without a full window of training or of validation."""
    for purpose, spans in (
        ("training", part.split.training),
        ("validation", part.split.validation),
    ):
        if not ((spans.end - spans.start) >= window_length).any():
            raise UserError(
                f"data.genome: {part.name} has no stretch of {window_length} known bases for "
                f"{purpose}, wanted a larger genome, more of it in data.regions, other "
                "data.validation_contigs or a smaller data.window_length"
            )


class MicroBatchDataset(Dataset):
    """This rank's micro-batches of a run.

    The windows of a step are assigned to its micro-batches whatever the number of ranks; the ranks
    take the micro-batches in turns.
    """

    def __init__(
        self,
        windows: WindowStream,
        global_batch_size: int,
        micro_batch_size: int,
        rank: int,
        ranks: int,
    ):
        self.windows, self.global_batch_size = windows, global_batch_size
        self.num_micro_batches = global_batch_size // micro_batch_size
        self.rank, self.ranks = rank, ranks
        self.seconds = 0.0  # spent in `__getitem__`

    def __getitem__(self, number: int) -> WindowBatch:
        start = time.perf_counter()
        step, micro_batch_index = divmod(number * self.ranks + self.rank, self.num_micro_batches)
        batch = self.windows.batch(
            step * self.global_batch_size,
            self.global_batch_size,
            micro_batch_index,
            self.num_micro_batches,
        )
        self.seconds += time.perf_counter() - start
        return batch


class AheadOfTime(Dataset):
    """Micro-batches, the next of which is gathered in a thread while a GPU is given its work.

    Attributes
    ----------
    seconds : float
        That `__getitem__` has waited.
    """

    def __init__(self, data: Dataset[WindowBatch]):
        self.data, self.seconds = data, 0.0
        self._thread = ThreadPoolExecutor(1, "windows")
        self._next: tuple[int, Future[WindowBatch]] | None = None

    def __getitem__(self, number: int) -> WindowBatch:
        start = time.perf_counter()
        gathered, self._next = self._next, None
        if gathered is not None and gathered[0] == number:
            batch = gathered[1].result()
        else:
            batch = self._thread.submit(self.data.__getitem__, number).result()
        self._next = number + 1, self._thread.submit(self.data.__getitem__, number + 1)
        self.seconds += time.perf_counter() - start
        return batch


class ResumableSampler(Sampler[int]):
    """Yields start .. total - 1.

    Its length is `total`: Lightning counts the batches of the whole epoch, including those before
    a resume.
    """

    def __init__(self, start: int, total: int):
        self.start, self.total = start, total

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.total))

    def __len__(self) -> int:
        return self.total


class ValidationWindows(Dataset):
    """This rank's part of the validation windows, in batches of similar length.

    All ranks have the same number of batches, as ranks that share one model (FSDP) need it.
    """

    SIZE = 16

    def __init__(self, codes: np.ndarray, windows: Windows, rank: int, ranks: int):
        self.codes = codes
        order = np.argsort(-windows.length, kind="stable")[rank::ranks]
        self.order = order  # of all validation windows, those of this rank
        self.windows = Windows(windows.start[order], windows.length[order])
        self.edges = [*range(0, len(order), self.SIZE), len(order)]
        largest_part = -(-len(windows.start) // ranks)
        if len(self.edges) <= -(-largest_part // self.SIZE) and len(order) > 1:
            self.edges.insert(-1, len(order) - 1)  # another rank has one window and batch more

    def __len__(self) -> int:
        return len(self.edges) - 1

    def __getitem__(self, number: int) -> WindowBatch:
        if number >= len(self):
            raise IndexError(number)
        part = slice(self.edges[number], self.edges[number + 1])
        keys = sequence_keys(derive_key(VALIDATION_SEED, "validation masks"), self.order[part])
        return collate(self.codes, Windows(*(column[part] for column in self.windows)), keys)
