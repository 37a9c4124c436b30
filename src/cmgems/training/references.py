"""The bits a hidden base that the validation figures of a run are held against."""

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
from cmgems.training.markov import MAX_ORDER, count_training, fit, references
from cmgems.training.module import FULLY_HIDDEN_MASKS
from cmgems.utils.files import atomic_write


def base_references(
    genome: Genome, data: GenomeDataModule, masker: Masker
) -> Callable[[], dict[str, float]]:
    """What the composition and the best Markov model of the training DNA pay for the hidden bases
    of the validation windows, under the masks that the model is measured with.

    Computed in the background from here on, and kept in the genome store: it takes
    some seconds, and is the same for all runs with the same windows and masks.

    Returns
    -------
    A function that waits for the figures if need be:
    `composition_bits`, `markov_bits` (a hidden base), `markov_order`, `hidden_bases`; nothing if
    the validation windows are so few and short that no base is hidden in them
    """
    # Masks are made here: the masker may move to another device while the thread counts.
    masks = _hidden(data, masker)
    pool = ThreadPoolExecutor(1, "references")
    found = pool.submit(_kept_references, genome, data, *masks)
    pool.shutdown(wait=False)
    return found.result


def _kept_references(
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
    kept = genome.path / "references" / f"{digest.hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError):  # not there, or damaged: compute
        return json.loads(kept.read_text())
    found = _references(data, codes_BL, hidden_BL, wanted_BL)
    with contextlib.suppress(OSError):  # a store that we may not write to
        kept.parent.mkdir(exist_ok=True)
        with atomic_write(kept) as handle:
            json.dump(found, handle)
    return found


def _references(
    data: GenomeDataModule, codes_BL: np.ndarray, hidden_BL: np.ndarray, wanted_BL: np.ndarray
) -> dict[str, float]:
    counts = count_training(data.codes, data.train_spans.start, data.train_spans.end)
    model = fit(counts)
    composition = counts[0] / counts[0].sum()
    plain, markov, bases = references(model, composition, codes_BL, hidden_BL, wanted_BL)
    if not bases:
        return {}
    return {
        "composition_bits": plain / bases,
        "markov_bits": markov / bases,
        "markov_order": model.order,
        "hidden_bases": bases,
    }


def _hidden(data: GenomeDataModule, masker: Masker) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All validation windows: base codes, which are hidden, and which of these are counted."""
    windows = ValidationWindows(data.codes, data.held_out, rank=0, ranks=1)
    longest = int(data.held_out.length.max())
    parts = []
    for number in range(len(windows)):
        batch = windows[number]
        masked = masker(batch, FULLY_HIDDEN_MASKS, ALL_MASKED)
        hidden_BL = masker.tokenization.hidden_bases(masked.mask_BK, masked.maskable_BK)
        counted_BL = runs_up_to(hidden_BL, masker.tokenization.max_hidden_run)
        arrays = (batch.codes_BL, hidden_BL, counted_BL)
        fills = (4, False, False)
        for_all = [
            np.pad(a.numpy(), ((0, 0), (0, longest - a.shape[1])), constant_values=fill)
            for a, fill in zip(arrays, fills, strict=True)
        ]
        parts.append(for_all)
    codes, hidden, wanted = (np.concatenate(column) for column in zip(*parts, strict=True))
    return codes, hidden, wanted
