"""Tasks from intervals: windows of a genome around positives, against negatives of four kinds.

| negatives | what they are |
| --- | --- |
| `matched` | windows drawn from the same split that overlap no positive, each the nearest to its positive in GC content and in the fraction of its bases in repeats |
| `shifted` | each positive some windows away, downstream or upstream, where there is no positive |
| `shuffled` | each positive with its dinucleotides kept |
| a file | the intervals of another file |

A split is a part of the genome, by contigs or by the blocks of pretraining: test windows lie whole in
what pretraining on this genome holds out for validation, at the same fraction and block, so no such
model was trained on them. Every draw is a function of the files alone.
"""  # noqa: E501

import sys
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmgems.config.schema import Data
from cmgems.errors import UserError
from cmgems.genome.alphabet import AMBIGUOUS, reverse_complement
from cmgems.genome.annotation.intervals import Interval, read_intervals
from cmgems.genome.annotation.regions import place_regions
from cmgems.genome.cache import load_genome
from cmgems.genome.genome import Genome
from cmgems.genome.names import ContigNames
from cmgems.genome.spans import Spans, intersect, split_spans, subtract, unambiguous_spans, union
from cmgems.tasks.dataset import LabelledSequences, from_codes
from cmgems.tasks.matched_windows import draw_matched, draw_shifted, lies_in
from cmgems.tasks.shuffling import dinucleotide_shuffled
from cmgems.utils.rng import derive_key

CENTERS = ("middle", "start", "end")
KINDS = ("matched", "shifted", "shuffled")
_DEV_EVERY, _DEV_REGION = 10, 20_000  # every tenth region of training, bases, is for dev


class IntervalSource(NamedTuple):
    """What a task file says of its intervals."""

    genome: str
    positives: str  # a file, or FILE:FEATURE
    negatives: str  # one of KINDS, or a file
    window: int  # bases of an example
    center: str = "middle"  # one of CENTERS: what of an interval is in the middle of its window
    dev_contigs: tuple[str, ...] = ()
    test_contigs: tuple[str, ...] = ()


class Windows(NamedTuple):
    """Windows of known bases, in the order of the file."""

    start: np.ndarray  # int64 [N], offsets in Genome.codes
    reverse: np.ndarray  # bool [N]: on the reverse strand
    dropped: int  # intervals without a window: on no contig of the genome, at a gap or an end


def read_interval_split(source: IntervalSource, split: str, folder: Path) -> LabelledSequences:
    """The examples of a split: each positive (label 1), then its negative (label 0).

    Raises
    ------
    UserError
        If a file cannot be used, or the split has no positive or no negative.
    """
    genome = load_genome(source.genome)
    stretches = split_stretches(genome, source)[split]
    found = place_windows(genome, source, source.positives, folder)
    positives = _inside(found, stretches, source.window)
    if not len(positives.start):
        raise UserError(
            f"positives: {source.positives}: has no interval with {source.window} known bases in "
            f"the {split} part of {genome.name} ({len(found.start):,} in all of it), wanted some"
        )
    pairs = _with_negatives(genome, source, found, positives, stretches, folder)
    if not pairs.negatives:
        raise UserError(f"negatives: {source.negatives}: found none for the {split} part")
    if pairs.unmatched:
        _notice(
            f"{source.positives}: {pairs.unmatched:,} of {len(positives.start):,} positives of "
            f"{split} have no negative that is {source.negatives}, and are left out"
        )
    labels = np.repeat([1, 0], [len(pairs.positives), len(pairs.negatives)])
    return from_codes([*pairs.positives, *pairs.negatives], labels)


@lru_cache
def _notice(line: str) -> None:
    """Say it once: a split is read several times."""
    print(line, file=sys.stderr)


def split_stretches(genome: Genome, source: IntervalSource) -> dict[str, Spans]:
    """What of the genome each split is drawn from."""
    known = unambiguous_spans(genome.codes)
    if source.test_contigs:
        test = place_regions(genome, source.test_contigs, "test_contigs")
        dev = place_regions(genome, source.dev_contigs, "dev_contigs")
        train = subtract(subtract(known, test), dev)
        return {"train": train, "dev": intersect(known, dev), "test": intersect(known, test)}
    data = Data()
    training, test = split_spans(known, data.validation_fraction, data.validation_block)
    starts = np.arange(0, len(genome.codes), _DEV_EVERY * _DEV_REGION)
    dev = Spans(starts, starts + _DEV_REGION)
    return {
        "train": subtract(training, dev),
        "dev": intersect(training, dev),
        "test": test,
    }


def place_windows(genome: Genome, source: IntervalSource, file: str, folder: Path) -> Windows:
    """A window around each interval of a file, each window once."""
    names, size = ContigNames(genome), source.window
    starts: dict[tuple[int, bool], None] = {}
    count = 0
    for interval in read_intervals(str(folder / file)):
        count += 1
        at = center_of(interval, source.center) - size // 2
        try:
            placed = names.place(interval.contig, at, at + size)
        except UserError:
            continue
        start = placed.contig.start + placed.start
        if (genome.codes[start : start + size] < AMBIGUOUS).all():
            starts[start, interval.strand == "-"] = None
    keys = list(starts)
    return Windows(
        np.array([start for start, _ in keys], np.int64),
        np.array([reverse for _, reverse in keys], bool),
        count - len(keys),
    )


def center_of(interval: Interval, center: str) -> int:
    """The base that is in the middle of a window; start and end are those of the strand."""
    if center == "middle":
        return (interval.start + interval.end) // 2
    first = (center == "start") == (interval.strand != "-")
    return interval.start if first else interval.end - 1


def _inside(windows: Windows, stretches: Spans, size: int) -> Windows:
    """The windows that lie whole in one of the stretches."""
    inside = lies_in(windows.start, stretches, size)
    return Windows(windows.start[inside], windows.reverse[inside], int((~inside).sum()))


def _examples(genome: Genome, windows: Windows, size: int) -> list[np.ndarray]:
    codes = [np.array(genome.codes[start : start + size]) for start in windows.start.tolist()]
    return [
        reverse_complement(window) if reverse else window
        for window, reverse in zip(codes, windows.reverse.tolist(), strict=True)
    ]


class _Pairs(NamedTuple):
    """The examples of a split."""

    positives: list[np.ndarray]
    negatives: list[np.ndarray]
    unmatched: int = 0  # positives that are left out, since they have no negative


def _with_negatives(
    genome: Genome,
    source: IntervalSource,
    everywhere: Windows,
    positives: Windows,
    stretches: Spans,
    folder: Path,
) -> _Pairs:
    """Positives and one negative for each, or those of a file."""
    size, examples = source.window, _examples(genome, positives, source.window)
    if source.negatives == "shuffled":
        seeds = (derive_key(start, "dinucleotide shuffle") for start in positives.start.tolist())
        return _Pairs(examples, list(map(dinucleotide_shuffled, examples, seeds)))
    if source.negatives not in KINDS:
        found = place_windows(genome, source, source.negatives, folder)
        return _Pairs(examples, _examples(genome, _inside(found, stretches, size), size))
    free = subtract(stretches, union(everywhere.start, everywhere.start + size))
    draw = draw_shifted if source.negatives == "shifted" else draw_matched
    number, start = draw(genome, positives.start, free, size)
    negatives = Windows(start, positives.reverse[number], 0)
    return _Pairs(
        [examples[n] for n in number],
        _examples(genome, negatives, size),
        len(examples) - len(number),
    )
