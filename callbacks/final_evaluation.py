"""What a model knows at the end of its run: more windows than the curves, and intervals."""

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor
from tqdm import tqdm

from cmgems.callbacks.checkpoints import StopOnSignal
from cmgems.callbacks.training_log import is_final, write
from cmgems.data_modules.pretraining import GenomeDataModule, ValidationWindows
from cmgems.data_modules.windows import WindowBatch
from cmgems.training.final_references import FinalReferences, final_references
from cmgems.training.judge import BasePredictions, judge, named_scalars, reference_bits
from cmgems.training.module import Pretraining
from cmgems.training.references import mask_windows


class FinalEvaluation(L.Callback):
    """Judges the finished model on `validation.final_windows` (`cmgems.training.judge`).

    It follows the validation that comes after the training, in which all ranks measure a part of
    the windows. Meanwhile the first rank computes what models without a network know of the same
    bases. The figures are logged as `final_STRATUM/...`.

    Parameters
    ----------
    stop : StopOnSignal
        A signal ends the evaluation; a resumed run begins it anew.

    Attributes
    ----------
    judged : dict
        See `cmgems.training.judge.judge`; empty on other ranks than the first, and where the
        windows are so few and short that no base is hidden in them.
    """

    def __init__(self, stop: StopOnSignal):
        self.stop = stop
        self.judged: dict[str, Any] = {}
        self._bar: tqdm | None = None

    def results(self) -> dict[str, Any]:
        """`hidden_bases` and `reference` of `results.json`."""
        reference = reference_bits(self.judged) if self.judged else {}
        return {"hidden_bases": self.judged, "reference": reference}

    def on_validation_start(self, trainer: L.Trainer, module: Pretraining) -> None:
        if not is_final(trainer):
            return
        data = _data(trainer)
        windows, rank = data.final_windows, trainer.global_rank
        part = ValidationWindows(data.codes, windows, rank, trainer.world_size)
        self._counts: list[Tensor] = []  # counted bases of each window of this rank
        self._values: list[Tensor] = []  # bits, then probabilities, of each of these bases
        if trainer.is_global_zero:
            self._references = _compute(data, module)
            self._bar = tqdm(
                total=len(part),
                desc=f"final validation on {len(windows.start):,} windows",
                unit="batch",
                mininterval=0.1 if sys.stderr.isatty() else 30,  # in a log file, a line each
            )

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        module: Pretraining,
        outputs: STEP_OUTPUT,
        batch: WindowBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not is_final(trainer):
            return
        assert isinstance(outputs, dict)  # what `Pretraining.validation_step` returns
        counted_BL, scores = outputs["measured"]
        values_HC = scores.bits_H[:, None].float()
        tokenization = module.masker.tokenization
        if tokenization.has_base_probabilities:
            masked = outputs["masked"]
            probability_H4 = tokenization.base_probabilities(
                outputs["logits_MV"], masked.mask_BK, counted_BL, masked.ids_BK
            )
            values_HC = torch.cat([values_HC, probability_H4], dim=1)
        self._counts.append(counted_BL.sum(1))
        self._values.append(values_HC)
        if self._bar is not None:
            self._bar.update()
        self.stop.stop_if_asked(trainer, saved=True)

    def on_validation_end(self, trainer: L.Trainer, module: Pretraining) -> None:
        if not is_final(trainer):
            return
        windows = len(_data(trainer).final_windows.start)
        values_HC = _gather(trainer, module, windows, self._counts, self._values).cpu().numpy()
        self._close()
        if not trainer.is_global_zero or not len(values_HC):
            return
        has_probabilities = module.masker.tokenization.has_base_probabilities
        probability_H4 = values_HC[:, 1:] if has_probabilities else None
        predictions = BasePredictions(values_HC[:, 0].astype(float), probability_H4)
        self.judged = judge(predictions, self._references.result())
        if not has_probabilities:
            self.judged["gain_left_out"] = (
                f"{module.masker.tokenization.description} give no distribution of single bases"
            )
        write(trainer, named_scalars(self.judged))

    def on_exception(
        self, trainer: L.Trainer, module: Pretraining, exception: BaseException
    ) -> None:
        self._close()  # before the reason is printed

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _data(trainer: L.Trainer) -> GenomeDataModule:
    # Lightning sets the data module without declaring it.
    return trainer.datamodule  # type: ignore[attr-defined]


def _compute(data: GenomeDataModule, module: Pretraining) -> "Future[FinalReferences]":
    """Start to compute the references in the background."""
    masked = mask_windows(data, data.final_windows, module.masker)
    pool = ThreadPoolExecutor(1, "final references")
    future = pool.submit(final_references, data.genome, data, masked)
    pool.shutdown(wait=False)
    return future


def _gather(
    trainer: L.Trainer,
    module: Pretraining,
    windows: int,
    counts: list[Tensor],
    values: list[Tensor],
) -> Tensor:
    """float32 [H, C]: the values of the counted bases of all ranks, in the order of the windows
    (the longest first, as `mask_windows` has them), whatever the number of ranks."""
    part = slice(trainer.global_rank, None, trainer.world_size)
    counts_N = torch.zeros(windows, dtype=torch.int64, device=module.device)
    counts_N[part] = torch.cat(counts)
    counts_N = module.add_up(counts_N)
    mine_N = torch.zeros(windows, dtype=torch.bool, device=module.device)
    mine_N[part] = True
    values_HC = torch.cat(values)
    all_HC = values_HC.new_zeros(int(counts_N.sum()), values_HC.shape[1])
    all_HC[mine_N.repeat_interleave(counts_N)] = values_HC
    return module.add_up(all_HC)
