"""A trace of some training steps, for TensorBoard or Perfetto."""

from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch.profiler import ProfilerActivity, profile

from cmgems.data_modules.windows import WindowBatch

FIRST, STEPS = 4, 3  # after compilation and the first allocations


class Profile(L.Callback):
    """Records a few steps after the run begins or resumes, into `folder`, if no trace is there.

    `trace.json` opens in https://ui.perfetto.dev and in TensorBoard's profiler; `costs.txt` lists
    the operations by their time, the most expensive first.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._profiler: profile | None = None
        self._begin = 0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._begin = trainer.global_step + min(FIRST, max(trainer.max_steps - STEPS, 0))

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: WindowBatch, batch_idx: int
    ) -> None:
        starts = trainer.global_step == self._begin and trainer.is_global_zero
        if starts and self._profiler is None and not (self.folder / "trace.json").exists():
            self._profiler = profile(activities=_activities(), record_shapes=True, acc_events=True)
            self._profiler.start()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: STEP_OUTPUT,
        batch: WindowBatch,
        batch_idx: int,
    ) -> None:
        if trainer.global_step >= self._begin + STEPS:
            self._write()

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._write()  # if the run is shorter

    def _write(self) -> None:
        """End the recording and write it, if one is under way."""
        profiler, self._profiler = self._profiler, None
        if profiler is None:
            return
        profiler.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(self.folder / "trace.json"))
        order = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = profiler.key_averages().table(sort_by=order, row_limit=30)
        (self.folder / "costs.txt").write_text(table + "\n")


def _activities() -> list[ProfilerActivity]:
    cuda = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    return [ProfilerActivity.CPU, *cuda]
