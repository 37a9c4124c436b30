"""Bits per hidden base of models without a network, with which curves of validation are compared.

Those of the end of a run are in `cmgems.training.final_references`.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmgems.data_modules.pretraining import GenomeDataModule, ValidationWindows
from cmgems.data_modules.sampling import Windows
from cmgems.difficulty.markov import MAX_ORDER, bits_of, count_stretches, fit, predict_hidden
from cmgems.genome.genome import Genome
from cmgems.masking.masker import Masker, MaskingPlan
from cmgems.masking.packing import ALL_MASKED
from cmgems.tokenization.hidden import runs_up_to
from cmgems.training.module import FULLY_HIDDEN_MASKS, REFERENCE_PARAMS
from cmgems.utils.files import atomic_write


class MaskedWindows(NamedTuple):
    """Validation windows and their masks; padded on the right with unknown bases."""

    codes_BL: np.ndarray  # uint8 base codes
    hidden_BL: np.ndarray  # bool: bases that no visible token shows
    counted_BL: np.ndarray  # bool: those of them that are measured, in whole runs
    start_B: np.ndarray  # int64: where in the genome's codes each window begins

    @property
    def bases_and_masks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is known of a window wherever it is from."""
        return self.codes_BL, self.hidden_BL, self.counted_BL

    def true_bases(self) -> np.ndarray:
        """int64 [H]: the counted bases, row by row."""
        return self.codes_BL[self.counted_BL].astype(np.int64)


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
    masked = mask_windows(data, data.validation_windows, masker)
    pool = ThreadPoolExecutor(1, "references")
    future = pool.submit(_cached_references, genome, data, masked)
    pool.shutdown(wait=False)
    return future.result


def _cached_references(
    genome: Genome, data: GenomeDataModule, masked: MaskedWindows
) -> dict[str, float]:
    cache_path = reference_cache(genome, data, masked, suffix="json")
    with contextlib.suppress(OSError, ValueError):  # missing or damaged: compute
        return json.loads(cache_path.read_text())
    values = _compute_references(data, masked)
    with contextlib.suppress(OSError):  # a store that we may not write to
        cache_path.parent.mkdir(exist_ok=True)
        with atomic_write(cache_path) as handle:
            json.dump(values, handle)
    return values


def reference_cache(
    genome: Genome, data: GenomeDataModule, masked: MaskedWindows, *more: object, suffix: str
) -> Path:
    """Where in a genome store the references of these windows and masks are kept; `more` is what
    else they depend on."""
    spans = data.train_spans
    text = " ".join(map(str, (genome.sha256, MAX_ORDER, *more)))
    digest = hashlib.sha256(text.encode())
    for array in (spans.start, spans.end, *masked.bases_and_masks):
        digest.update(np.ascontiguousarray(array).data)
    return genome.path / "references" / f"{digest.hexdigest()[:32]}.{suffix}"


def _compute_references(data: GenomeDataModule, masked: MaskedWindows) -> dict[str, float]:
    counts = count_stretches(data.codes, [data.train_spans])
    model = fit(counts)
    composition = counts[0] / counts[0].sum()
    true_H = masked.true_bases()
    if not len(true_H):
        return {}
    return {
        "composition_bits": float(-np.log2(composition[true_H]).sum()) / len(true_H),
        "markov_bits": float(bits_of(predict_hidden(model, *masked.bases_and_masks), true_H).sum())
        / len(true_H),
        "markov_order": model.order,
        "hidden_bases": len(true_H),
    }


def mask_windows(
    data: GenomeDataModule, chosen: Windows, masker: Masker, masks: str = FULLY_HIDDEN_MASKS
) -> MaskedWindows:
    """Validation windows under the masks that hidden bases are measured with, the longest first."""
    batches = ValidationWindows(data.codes, chosen, rank=0, ranks=1)
    max_length, device = int(chosen.length.max()), masker.rank_V.device
    parts, starts = [], list[int]()
    for number in range(len(batches)):
        batch = data.on_before_batch_transfer(batches[number], 0)
        batch = batch.to(device)
        plan = MaskingPlan((masks,), params=REFERENCE_PARAMS)
        masked = masker(batch, plan, ALL_MASKED)
        hidden_BL = masker.tokenization.hidden_bases(
            masked.mask_BK, masked.maskable_BK, masked.ids_BK, batch.codes_BL.shape[1]
        )
        counted_BL = runs_up_to(hidden_BL, masker.tokenization.max_hidden_run)
        arrays = (batch.codes_BL, hidden_BL, counted_BL)
        fills = (4, False, False)
        padded = [
            np.pad(a.cpu().numpy(), ((0, 0), (0, max_length - a.shape[1])), constant_values=fill)
            for a, fill in zip(arrays, fills, strict=True)
        ]
        parts.append(padded)
        starts += batch.starts
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return MaskedWindows(columns[0], columns[1], columns[2], np.array(starts))
