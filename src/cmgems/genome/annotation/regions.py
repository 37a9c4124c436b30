"""Intervals of files, and regions that a user names, as stretches of a genome."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.annotation.intervals import Interval, read_intervals
from cmgems.genome.genome import Genome
from cmgems.genome.names import ContigNames
from cmgems.genome.region import parse_regions
from cmgems.genome.spans import Spans, union


class PlacedIntervals(NamedTuple):
    """Where intervals are in `Genome.codes`, and what of them is not."""

    spans: Spans
    read: int  # intervals of the files
    problems: Counter[str]  # how many are not used, or not whole, by the reason

    def describe(self) -> str:
        """What is not used, in one line; "" if all is."""
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in self.problems.most_common())
        return f"of {self.read:,} intervals {reasons}" if reasons else ""


def place_intervals(genome: Genome, intervals: Iterable[Interval]) -> PlacedIntervals:
    """The union of intervals in a genome; what is beyond a contig, or on no contig, is counted."""
    names, problems, count = ContigNames(genome), Counter[str](), 0
    starts: list[int] = []
    ends: list[int] = []
    for interval in intervals:
        count += 1
        if interval.start == interval.end:
            problems["are empty"] += 1
            continue
        inside, on_contig = 0, False
        for contig, offset in names.find(interval.contig):
            on_contig = True
            first, last = interval.start - offset, interval.end - offset
            first, last = max(first, 0), min(last, contig.length)
            if first < last:
                starts.append(contig.start + first)
                ends.append(contig.start + last)
                inside += last - first
        if inside < interval.end - interval.start:
            problems[_problem(on_contig, inside)] += 1
    spans = union(np.array(starts, np.int64), np.array(ends, np.int64))
    return PlacedIntervals(spans, count, problems)


def _problem(on_contig: bool, inside: int) -> str:
    if not on_contig:
        return "are on contigs that it has not"
    return "reach beyond a contig's ends" if inside else "are beyond a contig's ends"


def place_files(genome: Genome, sources: Sequence[str], key: str) -> PlacedIntervals:
    """The union of the intervals of files (see `read_intervals`).

    Raises
    ------
    UserError
        If a file cannot be read, or none of its intervals is in the genome; `key` begins the
        message.
    """
    starts, ends, count, problems = [], [], 0, Counter[str]()
    for source in sources:
        placed = place_intervals(genome, read_intervals(source))
        if not len(placed.spans.start):
            first = next(iter(read_intervals(source))).contig
            some = ", ".join(contig.name for contig in genome.contigs[:3])
            raise UserError(
                f"{key}: {source}: {placed.describe()}, the first is on {first}; wanted some in "
                f"{genome.name}, which has {some}: another assembly?"
            )
        starts.append(placed.spans.start)
        ends.append(placed.spans.end)
        count += placed.read
        problems += placed.problems
    return PlacedIntervals(union(np.concatenate(starts), np.concatenate(ends)), count, problems)


def place_regions(genome: Genome, texts: Sequence[str], key: str) -> Spans:
    """The union of contigs and regions that a user names (see `parse_regions`).

    Raises
    ------
    UserError
        If the genome does not have one of them; `key` begins the message.
    """
    try:
        regions = [region for text in texts for region in parse_regions(genome, text)]
    except UserError as error:
        raise UserError(f"{key}: {str(error).removeprefix('region: ')}") from error
    starts = [region.contig.start + region.start for region in regions]
    ends = [region.contig.start + region.end for region in regions]
    return union(np.array(starts, np.int64), np.array(ends, np.int64))
