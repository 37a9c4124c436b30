"""Strata of hidden bases by where they are: in soft-masked DNA, in which of several genomes."""

from collections.abc import Sequence

import numpy as np

from cmgems.data_modules.split import GenomePart
from cmgems.genome.genome import Genome
from cmgems.runs.hidden_bases import OF_GENOME
from cmgems.training.references import MaskedWindows

SOFT_MASKED = "soft_masked"


def strata_by_place(
    genome: Genome, parts: Sequence[GenomePart], masked: MaskedWindows
) -> dict[str, np.ndarray]:
    """bool [H] per stratum: the counted bases that belong to it.

    `soft_masked` is there where the genome knows its soft-masked bases, `genome_NAME` for each
    genome where there are several.
    """
    window_H, offset_H = np.nonzero(masked.counted_BL)
    strata = {}
    if genome.soft_masked:
        length = masked.counted_BL.shape[1]
        soft_BL = np.zeros(masked.counted_BL.shape, bool)
        for row, start in enumerate(masked.start_B.tolist()):
            soft = genome.soft_mask(start, min(start + length, len(genome.codes)))
            soft_BL[row, : len(soft)] = soft
        strata[SOFT_MASKED] = soft_BL[window_H, offset_H]
    if len(parts) > 1:
        first = [part.start for part in parts]
        genome_H = np.searchsorted(first, masked.start_B, side="right")[window_H] - 1
        for number, part in enumerate(parts):
            strata[f"{OF_GENOME}{part.name}"] = genome_H == number
    return strata
