"""Tasks from intervals: windows of a genome around positives, against negatives of five kinds.

| negatives | what they are |
| --- | --- |
| `matched` | windows drawn from the same split that overlap no positive, each the nearest to its positive in GC content and in the fraction of its bases in repeats |
| `decoy` | the same among the windows that have the signal of the positives at the same place: GT that is no donor |
| `shifted` | each positive some windows away, downstream or upstream, where there is no positive |
| `shuffled` | each positive with its dinucleotides kept |
| a file | the intervals of another file |

A split is a part of the genome, by contigs or by the blocks of pretraining: test windows lie whole in
what pretraining on this genome holds out for validation, at the same fraction and block, so no such
model was trained on them. Every draw is a function of the files alone.
"""  # noqa: E501

import multiprocessing
import sys
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmgems.config.schema import Data
from cmgems.errors import UserError
from cmgems.genome.alphabet import encode_bases, reverse_complement
from cmgems.genome.annotation.regions import place_regions
from cmgems.genome.cache import load_genome
from cmgems.genome.genome import Genome
from cmgems.genome.spans import (
    Spans,
    hold_out_blocks,
    intersect,
    subtract,
    unambiguous_spans,
    union,
)
from cmgems.tasks.dataset import LabelledSequences, from_codes
from cmgems.tasks.matched_windows import (
    Matches,
    draw_decoys,
    draw_matched,
    draw_shifted,
    draw_windows,
    lies_in,
)
from cmgems.tasks.shuffling import dinucleotide_shuffled
from cmgems.tasks.site_windows import (
    Windows,
    WindowShape,
    describe_problems,
    place_windows,
    read_windows,
)
from cmgems.utils.rng import derive_key, generator

KINDS = ("matched", "decoy", "shifted", "shuffled")
_DEV_EVERY, _DEV_REGION = 10, 20_000  # every tenth region of training, bases, is for dev


class IntervalSource(NamedTuple):
    """What a task file says of its intervals."""

    genome: str  # "": the one that the user names besides
    positives: tuple[str, ...]  # of each class but the first: a file, or FILE:FEATURE
    negatives: str  # one of KINDS, or a file
    window: int  # bases of an example
    center: tuple[str, ...] = ("middle",)  # of CENTERS, for each class or for all of them
    signals: tuple[str, ...] = ()  # bases that each class begins with (start) or ends with (end)
    validation_fraction: float = Data().validation_fraction
    dev_contigs: tuple[str, ...] = ()
    test_contigs: tuple[str, ...] = ()

    @property
    def shapes(self) -> list[WindowShape]:
        """The window of each class."""
        count = len(self.positives)
        centers = self.center * count if len(self.center) == 1 else self.center
        signals = self.signals or ("",) * count
        return [WindowShape(self.window, *each) for each in zip(centers, signals, strict=True)]


def read_interval_split(source: IntervalSource, split: str, folder: Path) -> LabelledSequences:
    """The examples of a split: the positives of each class in turn (labels 1, 2, ...), then the
    negatives (label 0).

    Raises
    ------
    UserError
        If a file cannot be used, or the split has no positive or no negative of a class.
    """
    if not source.genome:
        raise UserError(
            f"tasks.genome: found nothing, wanted the genome of {', '.join(source.positives)}"
        )
    genome = load_genome(source.genome)
    stretches = split_stretches(genome, source)[split]
    everywhere = place_positives(genome, source, folder)
    drawn = _Drawn(genome, source, stretches, everywhere, folder)
    negatives: list[np.ndarray] = []
    positives: list[list[np.ndarray]] = []
    for number, file in enumerate(source.positives):
        inside = lies_in(everywhere[number].start, stretches, source.window)
        windows = everywhere[number].select(inside)
        if not inside.any():
            raise UserError(
                f"positives: {file}: has no interval with {source.window} known bases in the "
                f"{split} part of {genome.name} ({len(inside):,} in all of it), wanted some"
            )
        pairs = drawn.pair(number, windows)
        if pairs.unmatched:
            _notice(
                f"{file}: {pairs.unmatched:,} of {int(inside.sum()):,} positives of {split} have "
                f"no negative that is {source.negatives}, and are left out"
            )
        positives.append(pairs.positives)
        negatives += pairs.negatives
    if source.negatives not in KINDS:
        negatives = drawn.of_file()
    if not negatives or not all(positives):
        raise UserError(f"negatives: {source.negatives}: found none for the {split} part")
    examples = [*positives, negatives]
    labels = np.repeat([*range(1, len(examples)), 0], [len(each) for each in examples])
    return from_codes([window for each in examples for window in each], labels)


@lru_cache
def _notice(line: str) -> None:
    """Say it once: a split is read several times, and by worker processes."""
    if multiprocessing.parent_process() is None:
        print(line, file=sys.stderr)


def split_stretches(genome: Genome, source: IntervalSource) -> dict[str, Spans]:
    """What of the genome each split is drawn from."""
    known = unambiguous_spans(genome.codes)
    if source.test_contigs:
        test = place_regions(genome, source.test_contigs, "test_contigs")
        dev = place_regions(genome, source.dev_contigs, "dev_contigs")
        train = subtract(subtract(known, test), dev)
        return {"train": train, "dev": intersect(known, dev), "test": intersect(known, test)}
    training, test = hold_out_blocks(
        known, len(genome.codes), source.validation_fraction, Data().validation_block
    )
    starts = np.arange(0, len(genome.codes), _DEV_EVERY * _DEV_REGION)
    dev = Spans(starts, starts + _DEV_REGION)
    return {
        "train": subtract(training, dev),
        "dev": intersect(training, dev),
        "test": test,
    }


def place_positives(genome: Genome, source: IntervalSource, folder: Path) -> list[Windows]:
    """The windows of each class in the whole genome; one that two classes have is in neither."""
    placed = []
    for file, shape in zip(source.positives, source.shapes, strict=True):
        windows = place_windows(genome, file, shape, folder)
        if line := describe_problems(windows, file, genome, shape):
            _notice(line)
        placed.append(windows)
    keys = [2 * windows.start + windows.reverse for windows in placed]
    unique, count = np.unique(np.concatenate(keys), return_counts=True)
    shared = unique[count > 1]
    if len(shared):
        files = ", ".join(source.positives)
        _notice(f"{files}: {len(shared):,} windows are of two classes, and are left out")
    return [w.select(~np.isin(key, shared)) for w, key in zip(placed, keys, strict=True)]


class _Pairs(NamedTuple):
    """The examples of a class."""

    positives: list[np.ndarray]
    negatives: list[np.ndarray]
    unmatched: int = 0  # positives that are left out, since they have no negative


class _Drawn:
    """Draws the negatives of one class after the other; none of them overlaps another.

    Parameters
    ----------
    everywhere : the windows of each class in the whole genome
    """

    def __init__(
        self,
        genome: Genome,
        source: IntervalSource,
        stretches: Spans,
        everywhere: list[Windows],
        folder: Path,
    ) -> None:
        self.genome, self.source, self.folder = genome, source, folder
        self.stretches, self.everywhere = stretches, everywhere
        self.free = self._without(stretches, *(windows.start for windows in everywhere))

    def _without(self, spans: Spans, *starts: np.ndarray) -> Spans:
        start = np.concatenate(starts)
        return subtract(spans, union(start, start + self.source.window))

    def pair(self, number: int, windows: Windows) -> _Pairs:
        """The positives of a class that have a negative, and these; all, if a file has those."""
        size = self.source.window
        examples = read_windows(self.genome, windows, size)
        if self.source.negatives == "shuffled":
            seeds = (derive_key(start, "dinucleotide shuffle") for start in windows.start.tolist())
            return _Pairs(examples, list(map(dinucleotide_shuffled, examples, seeds)))
        if self.source.negatives not in KINDS:
            return _Pairs(examples, [])
        row, start = self._matches(number, windows)
        negatives = windows.select(row)._replace(start=start)
        return _Pairs(
            [examples[n] for n in row],
            read_windows(self.genome, negatives, size),
            len(examples) - len(row),
        )

    def _matches(self, number: int, windows: Windows) -> Matches:
        if self.source.negatives == "shifted":
            return draw_shifted(windows.start, self.free, self.source.window)
        if self.source.negatives == "matched":
            return self._take(number, windows, "")
        rows, starts = [], []
        for strand in ("forward", "reverse"):
            chosen = np.flatnonzero(windows.reverse == (strand == "reverse"))
            row, start = self._take(number, windows.select(chosen), strand)
            rows.append(chosen[row])
            starts.append(start)
        row = np.concatenate(rows)
        order = np.argsort(row)
        return Matches(row[order], np.concatenate(starts)[order])

    def _take(self, number: int, windows: Windows, strand: str) -> Matches:
        """The matches of windows, which are free for no other class after it."""
        size, shape = self.source.window, self.source.shapes[number]
        # The name of the random stream is part of the task: other words, other negatives.
        rng = generator(number, f"{self.source.negatives} negatives {strand}".strip())
        if self.source.negatives == "matched":
            candidates = draw_windows(self.free, size, len(windows.start), rng)
        else:
            signal, offset = encode_bases(shape.signal), shape.signal_offset
            if strand == "reverse":
                signal, offset = reverse_complement(signal), size - offset - len(signal)
            wanted = len(windows.start)
            candidates = draw_decoys(self.genome, self.free, size, signal, offset, wanted, rng)
        matches = draw_matched(self.genome, windows.start, candidates, size)
        self.free = self._without(self.free, matches.start)
        return matches

    def of_file(self) -> list[np.ndarray]:
        """The negatives of a file, without those whose interval overlaps a positive one."""
        file, shape = self.source.negatives, self.source.shapes[0]
        found = place_windows(self.genome, file, shape._replace(signal=""), self.folder)
        if line := describe_problems(found, file, self.genome, shape):
            _notice(line)
        positives = union(
            np.concatenate([windows.intervals.start for windows in self.everywhere]),
            np.concatenate([windows.intervals.end for windows in self.everywhere]),
        )
        free = subtract(Spans(np.array([0]), np.array([len(self.genome.codes)])), positives)
        length = found.intervals.end - found.intervals.start
        overlaps = ~lies_in(found.intervals.start, free, length)
        if overlaps.any():
            _notice(f"{file}: {int(overlaps.sum()):,} overlap a positive, and are left out")
        inside = lies_in(found.start, self.stretches, self.source.window)
        windows = found.select(inside & ~overlaps)
        return read_windows(self.genome, windows, self.source.window)
