"""What models without a network know of each hidden base that a finished run is measured on.

Composition: the frequencies of the four bases in the training DNA. Markov: the best interpolated
Markov model (`cmgems.difficulty.markov`), once counted on all training DNA, and once on exactly the
windows that the run was trained on, each as often as it was seen: equal data.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from cmgems.data_modules.pretraining import GenomeDataModule
from cmgems.difficulty.markov import bits_of, count_stretches, fit, longest_word, predict_hidden
from cmgems.genome.genome import Genome
from cmgems.training.copies import copies_of_bases
from cmgems.training.references import MaskedWindows, reference_cache
from cmgems.utils.files import atomic_write


class FinalReferences(NamedTuple):
    """The H counted bases, window by window; what is known of each."""

    true_H: np.ndarray  # int64: the base
    window_H: np.ndarray  # int64: number of its window
    copies_H: np.ndarray  # int64, see `cmgems.training.copies`
    bits_H: dict[str, np.ndarray]  # float64: of `composition`, `markov_seen`, `markov`
    markov_H4: np.ndarray  # float32: its distribution by the Markov model of all training DNA
    markov_order: int
    markov_seen_order: int
    seen_bases: int  # that the run was trained on, each as often as it was seen


def final_references(
    genome: Genome, data: GenomeDataModule, masked: MaskedWindows
) -> FinalReferences:
    """Compute the references, or read them from the genome store, where they are cached: those of
    all training DNA per windows and masks, those of equal data per seed and steps too."""
    seen_by = (data.windows.seed, data.windows.sampling, data.max_steps, data.global_batch_size)
    known = _cached(
        reference_cache(genome, data, masked, "final", suffix="npz"),
        lambda: _all_training_dna(data, masked),
    )
    seen = _cached(
        reference_cache(genome, data, masked, "final", *seen_by, suffix="npz"),
        lambda: _windows_of_the_run(data, masked),
    )
    true_H = masked.true_bases()
    bits_H = {
        "composition": -np.log2(known["composition_4"])[true_H],
        "markov_seen": seen["bits_H"].astype(np.float64),
        "markov": bits_of(known["markov_H4"], true_H),
    }
    return FinalReferences(
        true_H=true_H,
        window_H=np.nonzero(masked.counted_BL)[0],
        copies_H=known["copies_H"],
        bits_H=bits_H,
        markov_H4=known["markov_H4"],
        markov_order=int(known["order"]),
        markov_seen_order=int(seen["order"]),
        seen_bases=int(seen["bases"]),
    )


Arrays = dict[str, np.ndarray]


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


def _all_training_dna(data: GenomeDataModule, masked: MaskedWindows) -> Arrays:
    counts = count_stretches(data.codes, [data.train_spans])
    model = fit(counts)
    copies_H = copies_of_bases(data.codes, data.train_spans, masked.codes_BL, masked.counted_BL)
    return {
        "composition_4": counts[0] / counts[0].sum(),
        "markov_H4": predict_hidden(model, *masked).astype(np.float32),
        "order": np.array(model.order),
        "copies_H": copies_H,
    }


def _windows_of_the_run(data: GenomeDataModule, masked: MaskedWindows) -> Arrays:
    at_most = data.max_steps * data.global_batch_size * data.windows.sampling.full_length
    counts = count_stretches(data.codes, data.trained_on(), longest_word(at_most))
    model = fit(counts)
    bits_H = bits_of(predict_hidden(model, *masked), masked.true_bases())
    return {
        "bits_H": bits_H.astype(np.float32),
        "order": np.array(model.order),
        "bases": counts[0].sum(),
    }
