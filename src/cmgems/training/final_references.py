"""What models without a network know of each hidden base that a finished run is measured on.

Composition: the frequencies of the four bases in the training DNA. Markov: the best interpolated
Markov model (`cmgems.difficulty.markov`), once counted on all training DNA, and once on exactly the
windows that the run was trained on, each as often as it was seen: equal data. (The latter for the
masks of the headline alone.)
"""

import contextlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from cmgems.data_modules.pretraining import GenomeDataModule
from cmgems.difficulty.markov import (
    Markov,
    bits_of,
    count_stretches,
    fit,
    longest_word,
    predict_hidden,
)
from cmgems.genome.genome import Genome
from cmgems.training.copies import copies_of_bases
from cmgems.training.references import MaskedWindows, reference_cache
from cmgems.training.strata import strata_by_place
from cmgems.utils.files import atomic_write

Arrays = dict[str, np.ndarray]


class JudgeReferences(NamedTuple):
    """The H counted bases under some masks, window by window; what is known of each."""

    true_H: np.ndarray  # int64: the base
    window_H: np.ndarray  # int64: number of its window
    copies_H: np.ndarray  # int64, see `cmgems.training.copies`
    bits_H: dict[str, np.ndarray]  # float64: of `composition`, `markov`


class FinalReferences(NamedTuple):
    """The same of the headline's masks, and more."""

    true_H: np.ndarray
    window_H: np.ndarray
    copies_H: np.ndarray
    bits_H: dict[str, np.ndarray]  # float64: of `composition`, `markov_seen`, `markov`
    markov_H4: np.ndarray  # float32: its distribution by the Markov model of all training DNA
    markov_order: int
    markov_seen_order: int
    seen_bases: int  # that the run was trained on, each as often as it was seen
    strata_H: dict[str, np.ndarray]  # bool, see `cmgems.training.strata`


class AllReferences(NamedTuple):
    headline: FinalReferences
    further: dict[str, JudgeReferences]  # by judge


def all_references(
    genome: Genome,
    data: GenomeDataModule,
    masked: MaskedWindows,
    further: dict[str, MaskedWindows],
) -> AllReferences:
    """Compute the references, or read them from the genome store, where they are cached: those of
    all training DNA per windows and masks, those of equal data per seed and steps too.

    Parameters
    ----------
    masked : under the masks of the headline
    further : under those of the other judges
    """
    model = cache(lambda: _count_training_dna(data))  # counted once, if at all

    def known_of(masked: MaskedWindows) -> Arrays:
        path = reference_cache(genome, data, masked, "final", suffix="npz")
        return _cached(path, lambda: _all_training_dna(data, masked, model()))

    known = known_of(masked)
    seen_by = [data.windows.seed, data.windows.sampling, data.max_steps, data.global_batch_size]
    if len(data.parts) > 1:  # the spans of one genome alone say what is drawn
        seen_by.append([part.share for part in data.parts])
    seen = _cached(
        reference_cache(genome, data, masked, "final", *seen_by, suffix="npz"),
        lambda: _windows_of_the_run(data, masked),
    )
    headline = _judge_references(masked, known)
    bits_H = headline.bits_H
    bits_H = {
        "composition": bits_H["composition"],
        "markov_seen": seen["bits_H"].astype(np.float64),
        "markov": bits_H["markov"],
    }
    return AllReferences(
        FinalReferences(
            *headline._replace(bits_H=bits_H),
            markov_H4=known["markov_H4"],
            markov_order=int(known["order"]),
            markov_seen_order=int(seen["order"]),
            seen_bases=int(seen["bases"]),
            strata_H=strata_by_place(genome, data.parts, masked),
        ),
        {name: _judge_references(other, known_of(other)) for name, other in further.items()},
    )


def _judge_references(masked: MaskedWindows, known: Arrays) -> JudgeReferences:
    true_H = masked.true_bases()
    return JudgeReferences(
        true_H=true_H,
        window_H=np.nonzero(masked.counted_BL)[0],
        copies_H=known["copies_H"],
        bits_H={
            "composition": -np.log2(known["composition_4"])[true_H],
            "markov": bits_of(known["markov_H4"], true_H),
        },
    )


def _cached(path: Path, compute: Callable[[], Arrays]) -> Arrays:
    with contextlib.suppress(OSError, ValueError, EOFError, BadZipFile):  # missing or damaged
        with open(path, "rb") as handle, np.load(handle) as arrays:
            return dict(arrays)
    values = compute()
    with contextlib.suppress(OSError):  # a store that we may not write to
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path, "wb") as file:
            np.savez(file, **values)  # type: ignore[arg-type]  # numpy's stub takes them for flags
    return values


class _TrainingDna(NamedTuple):
    """What counting makes of all training DNA."""

    composition_4: np.ndarray  # fractions of the bases
    markov: Markov


def _count_training_dna(data: GenomeDataModule) -> _TrainingDna:
    counts = count_stretches(data.codes, [data.train_spans])
    return _TrainingDna(counts[0] / counts[0].sum(), fit(counts))


def _all_training_dna(data: GenomeDataModule, masked: MaskedWindows, dna: _TrainingDna) -> Arrays:
    copies_H = copies_of_bases(data.codes, data.train_spans, masked.codes_BL, masked.counted_BL)
    return {
        "composition_4": dna.composition_4,
        "markov_H4": predict_hidden(dna.markov, *masked.bases_and_masks).astype(np.float32),
        "order": np.array(dna.markov.order),
        "copies_H": copies_H,
    }


def _windows_of_the_run(data: GenomeDataModule, masked: MaskedWindows) -> Arrays:
    at_most = data.max_steps * data.global_batch_size * data.windows.sampling.full_length
    counts = count_stretches(data.codes, data.trained_on(), longest_word(at_most))
    model = fit(counts)
    bits_H = bits_of(predict_hidden(model, *masked.bases_and_masks), masked.true_bases())
    return {
        "bits_H": bits_H.astype(np.float32),
        "order": np.array(model.order),
        "bases": counts[0].sum(),
    }
