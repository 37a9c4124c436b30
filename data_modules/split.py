"""Which stretches of a genome are trained on, and which are held out, as an experiment says."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from cmgems.config.schema import Data
from cmgems.errors import UserError
from cmgems.genome.annotation.regions import place_files, place_regions
from cmgems.genome.genome import Genome
from cmgems.genome.joined import load_members, member_labels, member_starts
from cmgems.genome.spans import (
    Spans,
    hold_out_blocks,
    intersect,
    subtract,
    unambiguous_spans,
)


class GenomeSplit(NamedTuple):
    """Stretches of known bases, which never overlap."""

    training: Spans
    validation: Spans
    notices: tuple[str, ...] = ()  # what of the files of intervals is not used, a line each

    @property
    def sha256(self) -> str:
        """Digest of the stretches: a resumed run must have the same."""
        digest = hashlib.sha256()
        for spans in (self.training, self.validation):
            for array in spans:
                digest.update(np.ascontiguousarray(array, "<i8").tobytes() + b"|")
        return digest.hexdigest()


class GenomePart(NamedTuple):
    """One of the genomes of a run in the codes of all."""

    name: str
    share: float  # of the windows
    start: int  # of its codes
    split: GenomeSplit  # in the codes of all


def split_genomes(data: Data, genome: Genome) -> tuple[GenomePart, ...]:
    """The genomes of an experiment, in the order of their codes, each split on its own: what is
    held out of a genome is the same whatever stands beside it.

    Parameters
    ----------
    genome : what `load_pretraining_genome` returns

    Raises
    ------
    UserError
        As `split_genome`.
    """
    if not data.genomes:
        return (GenomePart(genome.name, 1.0, 0, split_genome(data, genome)),)
    members = load_members(data)
    total = sum(source.weight for source in data.genomes)
    parts = []
    for source, member, name, start in zip(
        data.genomes, members, member_labels(members), member_starts(members), strict=True
    ):
        own = replace(
            data,
            regions=source.regions,
            exclude=source.exclude,
            validation_contigs=source.validation_contigs,
            test_contigs=source.test_contigs,
        )
        try:
            split = split_genome(own, member)
        except UserError as error:
            raise UserError(f"data.genomes: {source.path}: {error}") from error
        notices = tuple(f"{source.path}: {notice}" for notice in split.notices)
        moved = GenomeSplit(_move(split.training, start), _move(split.validation, start), notices)
        parts.append(GenomePart(name, source.weight / total, start, moved))
    return tuple(parts)


def join_splits(splits: Sequence[GenomeSplit]) -> GenomeSplit:
    """The stretches of several genomes, in the order of their codes."""
    training, validation = (
        Spans(*(np.concatenate(column) for column in zip(*spans, strict=True)))
        for spans in zip(*((split.training, split.validation) for split in splits), strict=True)
    )
    return GenomeSplit(training, validation, sum((split.notices for split in splits), ()))


def _move(spans: Spans, start: int) -> Spans:
    return Spans(spans.start + start, spans.end + start)


def split_genome(data: Data, genome: Genome) -> GenomeSplit:
    """The stretches of an experiment on one genome.

    Blocks for validation are at fixed positions of the genome, whatever the regions are: a base
    that one experiment holds out is not trained on in another with the same fraction and block.

    Raises
    ------
    UserError
        If a file or a contig that the experiment names cannot be used, or nothing is left.
    """
    spans, notices = unambiguous_spans(genome.codes), []
    if data.regions:
        regions = place_files(genome, data.regions, "data.regions")
        notices += [f"data.regions: {regions.describe()}"] * bool(regions.problems)
        spans = intersect(spans, regions.spans)
    if data.exclude:
        excluded = place_files(genome, data.exclude, "data.exclude")
        notices += [f"data.exclude: {excluded.describe()}"] * bool(excluded.problems)
        spans = subtract(spans, excluded.spans)
    test = place_regions(genome, data.test_contigs, "data.test_contigs")
    held_out = place_regions(genome, data.validation_contigs, "data.validation_contigs")
    if intersect(test, held_out).bases:
        raise UserError(
            "data.validation_contigs, data.test_contigs: found bases that are in both, wanted each "
            "base in one"
        )
    spans = subtract(spans, test)
    if not len(spans.start):
        raise UserError("data.regions, data.exclude, data.test_contigs: leave no known base")
    if data.validation_contigs:
        training, validation = subtract(spans, held_out), intersect(spans, held_out)
    else:
        training, validation = hold_out_blocks(
            spans, len(genome.codes), data.validation_fraction, data.validation_block
        )
    return GenomeSplit(training, validation, tuple(notices))
