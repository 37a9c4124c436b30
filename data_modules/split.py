"""Which stretches of a genome are trained on, and which are held out, as an experiment says."""

import hashlib
from typing import NamedTuple

import numpy as np

from cmgems.config.schema import Data
from cmgems.errors import UserError
from cmgems.genome.annotation.regions import place_files, place_regions
from cmgems.genome.genome import Genome
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


def split_genome(data: Data, genome: Genome) -> GenomeSplit:
    """The stretches of an experiment.

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
