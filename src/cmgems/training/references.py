"""Bits per hidden base of models without a network, with which validation is compared."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cmgems.data_modules.pretraining import GenomeDataModule, ValidationWindows
from cmgems.genome.genome import Genome
from cmgems.masking.masker import Masker
from cmgems.masking.packing import ALL_MASKED
from cmgems.tokenization.hidden import runs_up_to
from cmgems.training.markov import MAX_ORDER, count_training, fit, sum_reference_bits
from cmgems.training.module import FULLY_HIDDEN_MASKS
from cmgems.utils.files import atomic_write


def base_references(
    genome: Genome, data: GenomeDataModule, masker: Masker
) -> Callable[[], dict[str, float]]:
    """Bits per hidden base of the composition and of the best Markov model of the training DNA, on
    the validation windows and under the masks that the model is measured with.

    They are computed in the background, which takes some seconds, and cached in the genome store:
    they are the same for all runs with the same windows and masks.

    Returns
    -------
    A function that waits until they are computed and returns
    `composition_bits`, `markov_bits` (per hidden base), `markov_order`, `hidden_bases`; an empty
    dict if the validation windows are so few and short that no base is hidden in them
    """
    # Masks are made here: the masker may move to another device while the thread counts.
    arrays = _mask_validation(data, masker)
    pool = ThreadPoolExecutor(1, "references")
    future = pool.submit(_cached_references, genome, data, *arrays)
    pool.shutdown(wait=False)
    return future.result


def _cached_references(
    genome: Genome,
    data: GenomeDataModule,
    codes_BL: np.ndarray,
    hidden_BL: np.ndarray,
    wanted_BL: np.ndarray,
) -> dict[str, float]:
    spans = data.train_spans
    digest = hashlib.sha256(f"{genome.sha256} {MAX_ORDER}".encode())
    for array in (spans.start, spans.end, codes_BL, hidden_BL, wanted_BL):
        digest.update(np.ascontiguousarray(array).data)
    cache_path = genome.path / "references" / f"{digest.hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError):  # missing or damaged: compute
        return json.loads(cache_path.read_text())
    values = _compute_references(data, codes_BL, hidden_BL, wanted_BL)
    with contextlib.suppress(OSError):  # a store that we may not write to
        cache_path.parent.mkdir(exist_ok=True)
        with atomic_write(cache_path) as handle:
            json.dump(values, handle)
    return values


def _compute_references(
    data: GenomeDataModule, codes_BL: np.ndarray, hidden_BL: np.ndarray, wanted_BL: np.ndarray
) -> dict[str, float]:
    counts = count_training(data.codes, data.train_spans.start, data.train_spans.end)
    model = fit(counts)
    composition = counts[0] / counts[0].sum()
    composition_bits, markov_bits, bases = sum_reference_bits(
        model, composition, codes_BL, hidden_BL, wanted_BL
    )
    if not bases:
        return {}
    return {
        "composition_bits": composition_bits / bases,
        "markov_bits": markov_bits / bases,
        "markov_order": model.order,
        "hidden_bases": bases,
    }


def _mask_validation(
    data: GenomeDataModule, masker: Masker
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All validation windows: base codes, which are hidden, and which of these are counted."""
    windows = ValidationWindows(data.codes, data.validation_windows, rank=0, ranks=1)
    max_length = int(data.validation_windows.length.max())
    parts = []
    for number in range(len(windows)):
        batch = data.on_before_batch_transfer(windows[number], 0)
        masked = masker(batch, FULLY_HIDDEN_MASKS, ALL_MASKED)
        hidden_BL = masker.tokenization.hidden_bases(
            masked.mask_BK, masked.maskable_BK, masked.ids_BK, batch.codes_BL.shape[1]
        )
        counted_BL = runs_up_to(hidden_BL, masker.tokenization.max_hidden_run)
        arrays = (batch.codes_BL, hidden_BL, counted_BL)
        fills = (4, False, False)
        padded = [
            np.pad(a.numpy(), ((0, 0), (0, max_length - a.shape[1])), constant_values=fill)
            for a, fill in zip(arrays, fills, strict=True)
        ]
        parts.append(padded)
    codes, hidden, wanted = (np.concatenate(column) for column in zip(*parts, strict=True))
    return codes, hidden, wanted
