"""What a model predicts of the hidden bases of validation windows, collected over batches and
ranks."""

import lightning as L
import torch
from torch import Tensor

from cmgems.data_modules.windows import WindowBatch
from cmgems.masking.masker import MaskedBatch, Masker, MaskingPlan
from cmgems.masking.packing import ALL_MASKED
from cmgems.training.judge import BasePredictions
from cmgems.training.metrics import HiddenBaseMetric, MeasuredBases
from cmgems.training.module import REFERENCE_PARAMS, Pretraining


class CollectedPredictions:
    """The predictions of this rank for its part of some windows."""

    def __init__(self, module: Pretraining):
        self.module = module
        self._counts: list[Tensor] = []  # counted bases of each window of this rank
        self._values: list[Tensor] = []  # bits, then probabilities, of each of these bases

    def add(self, logits_MV: Tensor, masked: MaskedBatch, measured: MeasuredBases) -> None:
        """Of a batch: what `Pretraining.validation_step` returns."""
        counted_BL, scores = measured
        values_HC = scores.bits_H[:, None].float()
        tokenization = self.module.masker.tokenization
        if tokenization.has_base_probabilities:
            probability_H4 = tokenization.base_probabilities(
                logits_MV, masked.mask_BK, counted_BL, masked.ids_BK
            )
            values_HC = torch.cat([values_HC, probability_H4], dim=1)
        self._counts.append(counted_BL.sum(1))
        self._values.append(values_HC)

    def predict(self, batch: WindowBatch, masker: Masker, masks: str) -> None:
        """Predict a batch, on the device of the model, under the masks of a masker, and add it."""
        plan = MaskingPlan((masks,), params=REFERENCE_PARAMS)
        masked = masker(batch, plan, ALL_MASKED)
        logits_MV = self.module.model(masked.ids_T, masked.layout, masked.at_M).float()
        metric = HiddenBaseMetric(masker.tokenization).to(logits_MV.device)
        metric.update(
            logits_MV,
            masked.targets_M,
            batch.codes_BL,
            masked.mask_BK,
            masked.maskable_BK,
            masked.ids_BK,
        )
        self.add(logits_MV, masked, metric.last)

    def gather(self, trainer: L.Trainer, windows: int) -> BasePredictions | None:
        """Those of all ranks, in the order of the windows (the longest first, as `mask_windows` has
        them), whatever the number of ranks; None if no base is hidden in them.

        Parameters
        ----------
        windows : their number, over all ranks
        """
        values_HC = self._values_of_all(trainer, windows).cpu().numpy()
        if not len(values_HC):
            return None
        has_probabilities = self.module.masker.tokenization.has_base_probabilities
        probability_H4 = values_HC[:, 1:] if has_probabilities else None
        return BasePredictions(values_HC[:, 0].astype(float), probability_H4)

    def _values_of_all(self, trainer: L.Trainer, windows: int) -> Tensor:
        """float32 [H, C]"""
        part = slice(trainer.global_rank, None, trainer.world_size)
        counts_N = torch.zeros(windows, dtype=torch.int64, device=self.module.device)
        counts_N[part] = torch.cat(self._counts)
        counts_N = self.module.add_up(counts_N)
        mine_N = torch.zeros(windows, dtype=torch.bool, device=self.module.device)
        mine_N[part] = True
        values_HC = torch.cat(self._values)
        all_HC = values_HC.new_zeros(int(counts_N.sum()), values_HC.shape[1])
        all_HC[mine_N.repeat_interleave(counts_N)] = values_HC
        return self.module.add_up(all_HC)
