"""What a model knows at the end of its run: more windows than the curves, intervals, and more than
one kind of masks."""

import sys
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.utilities.types import STEP_OUTPUT
from tqdm import tqdm

from cmgems.callbacks.checkpoints import StopOnSignal
from cmgems.callbacks.training_log import is_final, write
from cmgems.data_modules.pretraining import GenomeDataModule, ValidationWindows
from cmgems.data_modules.sampling import Windows
from cmgems.data_modules.windows import WindowBatch
from cmgems.training.collection import CollectedPredictions
from cmgems.training.final_references import (
    AllReferences,
    FinalReferences,
    JudgeReferences,
    all_references,
)
from cmgems.training.judge import (
    BasePredictions,
    WindowSums,
    judge,
    judge_masks,
    judges_scalars,
    named_scalars,
    reference_bits,
)
from cmgems.training.judge_masks import FurtherJudges, build_further_judges
from cmgems.training.module import FULLY_HIDDEN_MASKS, Pretraining
from cmgems.training.references import mask_windows


class FinalEvaluation(L.Callback):
    """Judges the finished model on `validation.final_windows` (`cmgems.training.judge`), then under
    further masks on the first `validation.judge_windows` of them (`cmgems.training.judge_masks`).

    It follows the validation that comes after the training, in which all ranks measure a part of
    the windows. Meanwhile the first rank computes what models without a network know of the same
    bases. The figures are logged as `final_STRATUM/...` and `judge_MASKS/...`.

    Parameters
    ----------
    stop : StopOnSignal
        A signal ends the evaluation; a resumed run begins it anew.

    Attributes
    ----------
    judged : dict
        See `cmgems.training.judge.judge`; empty on other ranks than the first, and where the
        windows are so few and short that no base is hidden in them.
    judges : dict
        Of each kind of masks, what `cmgems.training.judge.judge_masks` returns, or why it is left
        out; empty where `judged` is.
    window_sums : dict of arrays
        See `cmgems.training.judge.WindowSums`.
    """

    def __init__(self, stop: StopOnSignal):
        self.stop = stop
        self.judged: dict[str, Any] = {}
        self.judges: dict[str, Any] = {}
        self.window_sums: dict[str, np.ndarray] = {}
        self._bar: tqdm | None = None

    def results(self) -> dict[str, Any]:
        """`hidden_bases`, `judges` and `reference` of `results.json`."""
        reference = reference_bits(self.judged) if self.judged else {}
        return {"hidden_bases": self.judged, "judges": self.judges, "reference": reference}

    def on_validation_start(self, trainer: L.Trainer, module: Pretraining) -> None:
        if not is_final(trainer):
            return
        data = _data(trainer)
        self._further = build_further_judges(module.experiment, data.genome, module.masker)
        self._collected = CollectedPredictions(module)
        if trainer.is_global_zero:
            self._references = _compute(data, module, self._further)
        self._open_bar(trainer, "final validation", data.final_windows)

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
        self._collected.add(**outputs)
        self._batch_done()

    def on_validation_end(self, trainer: L.Trainer, module: Pretraining) -> None:
        if not is_final(trainer):
            return
        self._close()
        data = _data(trainer)
        windows = len(data.final_windows.start)
        predictions = self._collected.gather(trainer, windows)
        further = {name: self._predict(trainer, module, name) for name in self._further.names}
        self._await_references(trainer)
        if not trainer.is_global_zero or predictions is None:
            return
        references = self._references.result()
        self._judge(FULLY_HIDDEN_MASKS, predictions, references.headline, windows)
        windows = len(data.judge_windows.start)
        for name, other in further.items():
            if other is None:
                self.judges[name] = {"left_out": "no base is hidden in the windows"}
            else:
                self._judge(name, other, references.further[name], windows)
        self.judges |= {name: {"left_out": why} for name, why in self._further.left_out.items()}
        if not module.masker.tokenization.has_base_probabilities:
            self.judged["gain_left_out"] = (
                f"{module.masker.tokenization.description} give no distribution of single bases"
            )
        write(trainer, named_scalars(self.judged) | judges_scalars(self.judges))

    def _predict(
        self, trainer: L.Trainer, module: Pretraining, name: str
    ) -> BasePredictions | None:
        """What the model predicts under the masks of a further judge; all ranks call it."""
        data = _data(trainer)
        collected = CollectedPredictions(module)
        batches = _part(trainer, data.judge_windows)
        self._open_bar(trainer, f"judged under {name} masks", data.judge_windows)
        for number in range(len(batches)):
            batch = data.on_before_batch_transfer(batches[number], 0)
            batch = batch.to(module.device)
            collected.predict(batch, self._further.masker, name)
            self._batch_done()
            self.stop.stop_if_asked(trainer, saved=True)
        self._close()
        return collected.gather(trainer, len(data.judge_windows.start))

    def _await_references(self, trainer: L.Trainer) -> None:
        """Wait for the first rank's references, which may take longer than the model; a signal
        ends that too. All ranks call it."""
        are_there = False
        while not are_there:
            self.stop.stop_if_asked(trainer, saved=True)
            if trainer.is_global_zero:
                are_there = bool(wait([self._references], timeout=0.5).done)
            are_there = trainer.strategy.broadcast(are_there)

    def _judge(
        self,
        name: str,
        predictions: BasePredictions,
        references: FinalReferences | JudgeReferences,
        windows: int,
    ) -> None:
        sums = WindowSums(name, windows)
        if isinstance(references, FinalReferences):
            self.judged = judge(predictions, references, sums)
        self.judges[name] = judge_masks(predictions, references, sums)
        self.window_sums |= sums.arrays

    def on_exception(
        self, trainer: L.Trainer, module: Pretraining, exception: BaseException
    ) -> None:
        self._close()  # before the reason is printed

    def _open_bar(self, trainer: L.Trainer, title: str, windows: Windows) -> None:
        if trainer.is_global_zero:
            self._bar = tqdm(
                total=len(_part(trainer, windows)),
                desc=f"{title} on {len(windows.start):,} windows",
                unit="batch",
                mininterval=0.1 if sys.stderr.isatty() else 30,  # in a log file, a line each
            )

    def _batch_done(self) -> None:
        if self._bar is not None:
            self._bar.update()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _data(trainer: L.Trainer) -> GenomeDataModule:
    # Lightning sets the data module without declaring it.
    return trainer.datamodule  # type: ignore[attr-defined]


def _part(trainer: L.Trainer, windows: Windows) -> ValidationWindows:
    """The part of this rank."""
    return ValidationWindows(_data(trainer).codes, windows, trainer.global_rank, trainer.world_size)


def _compute(
    data: GenomeDataModule, module: Pretraining, further: FurtherJudges
) -> "Future[AllReferences]":
    """Start to compute the references in the background."""
    masked = mask_windows(data, data.final_windows, module.masker)
    others = {
        name: mask_windows(data, data.judge_windows, further.masker, name) for name in further.names
    }
    pool = ThreadPoolExecutor(1, "final references")
    future = pool.submit(all_references, data.genome, data, masked, others)
    pool.shutdown(wait=False)
    return future
