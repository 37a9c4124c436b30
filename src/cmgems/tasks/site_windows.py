"""Windows of a genome around the intervals of a file, read on the strand of each."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmgems.genome.alphabet import AMBIGUOUS, encode_bases, reverse_complement
from cmgems.genome.annotation.intervals import Interval, read_intervals
from cmgems.genome.genome import Genome
from cmgems.genome.names import ContigNames
from cmgems.genome.spans import Spans

CENTERS = ("middle", "start", "end")
_LACKING = 0.2  # fraction of sites without their signal from which on the file is looked at again


class WindowShape(NamedTuple):
    """Which window an interval has."""

    size: int  # bases
    center: str = "middle"  # one of CENTERS: what of the interval is in the middle of the window
    signal: str = ""  # bases that a site begins with (center start) or ends with (end)

    @property
    def signal_offset(self) -> int:
        """Where in a window, read on its strand, the signal begins."""
        middle = self.size // 2
        return middle if self.center == "start" else middle + 1 - len(self.signal)


class Windows(NamedTuple):
    """N windows of known bases, in the order of the file, each once."""

    start: np.ndarray  # int64 [N], offsets in Genome.codes
    reverse: np.ndarray  # bool [N]: on the reverse strand
    intervals: Spans  # int64 [N] each: the intervals themselves, as offsets
    read: int  # intervals of the file
    problems: Counter[str]  # how many have no window, by the reason
    one_before: int  # of those that lack the signal: how many have it one base before

    def select(self, chosen: np.ndarray) -> "Windows":
        """Some of the windows, by index or as bool [N]."""
        intervals = Spans(self.intervals.start[chosen], self.intervals.end[chosen])
        return self._replace(
            start=self.start[chosen], reverse=self.reverse[chosen], intervals=intervals
        )


def center_of(interval: Interval, center: str) -> int:
    """The base that is in the middle of a window; start and end are those of the strand."""
    if center == "middle":
        # Of an even number of bases the one behind the middle, as it is read.
        return (interval.start + interval.end - (interval.strand == "-")) // 2
    first = (center == "start") == (interval.strand != "-")
    return interval.start if first else interval.end - 1


def window_start(interval: Interval, center: str, size: int) -> int:
    """The first base of a window on its contig: base `size // 2` of it, as read, is the center."""
    before = (size - 1) // 2 if interval.strand == "-" else size // 2
    return center_of(interval, center) - before


def place_windows(genome: Genome, file: str, shape: WindowShape, folder: Path) -> Windows:
    """A window around each interval of a file.

    Parameters
    ----------
    file : see `read_intervals`; relative to `folder`
    shape : an interval without its signal has no window
    """
    names, signal = ContigNames(genome), encode_bases(shape.signal)
    placed: dict[tuple[int, bool], tuple[int, int]] = {}
    problems, count, one_before = Counter[str](), 0, 0
    for interval in read_intervals(str(folder / file)):
        count += 1
        found = _place(names, interval, shape)
        if isinstance(found, str):
            problems[found] += 1
            continue
        start, first = found
        key = start, interval.strand == "-"
        if key in placed:
            continue
        if (genome.codes[start : start + shape.size] >= AMBIGUOUS).any():
            problems["have an unknown base next to them"] += 1
        elif not _has_signal(genome, key, shape, signal):
            problems[f"lack {shape.signal}"] += 1
            one_before += start > 0 and _has_signal(genome, (start - 1, key[1]), shape, signal)
        else:
            placed[key] = first, first + max(interval.end - interval.start, 1)
    rows = np.array([(*key, *ends) for key, ends in placed.items()], np.int64).reshape(-1, 4)
    intervals = Spans(rows[:, 2], rows[:, 3])
    return Windows(rows[:, 0], rows[:, 1] == 1, intervals, count, problems, one_before)


def describe_problems(windows: Windows, file: str, genome: Genome, shape: WindowShape) -> str:
    """What of a file has no window, in one line; "" if everything has one."""
    if not windows.problems:
        return ""
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in windows.problems.most_common())
    line = f"{file}: of {windows.read:,} intervals {reasons} ({genome.name}); they are left out"
    lacking = windows.problems[f"lack {shape.signal}"]
    if lacking > _LACKING * windows.read and windows.one_before > lacking / 2:
        line += (
            f". {windows.one_before:,} have {shape.signal} one base before: is the file 1-based? "
            "BED counts from 0"
        )
    return line


def _place(names: ContigNames, interval: Interval, shape: WindowShape) -> tuple[int, int] | str:
    """Offsets of an interval's window and of the interval, or why it has no window."""
    at = window_start(interval, shape.center, shape.size)
    contigs = names.find(interval.contig)
    for contig, offset in contigs:
        if offset <= at and at + shape.size <= offset + contig.length:
            origin = contig.start - offset
            return origin + at, origin + interval.start
    return "are at or beyond a contig's ends" if contigs else "are on contigs that it has not"


def _has_signal(
    genome: Genome, key: tuple[int, bool], shape: WindowShape, signal: np.ndarray
) -> bool:
    start, reverse = key
    window = genome.codes[start : start + shape.size]
    window = reverse_complement(window) if reverse else window
    offset = shape.signal_offset
    return np.array_equal(window[offset : offset + len(signal)], signal)


def read_windows(genome: Genome, windows: Windows, size: int) -> list[np.ndarray]:
    """Base codes of each window, on its strand: uint8 [size]."""
    codes = [np.array(genome.codes[start : start + size]) for start in windows.start.tolist()]
    return [
        reverse_complement(window) if reverse else window
        for window, reverse in zip(codes, windows.reverse.tolist(), strict=True)
    ]
