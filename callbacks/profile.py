"""A trace of some training steps, for TensorBoard or Perfetto."""

from pathlib import Path

import lightning as L
import torch
from torch.profiler import ProfilerActivity, profile

FIRST, STEPS = 4, 3  # behind compilation and first allocations


class Profile(L.Callback):
    """Records a few steps of this sitting into `folder`.

    `trace.json` opens in https://ui.perfetto.dev and in TensorBoard's profiler; `costs.txt` lists
    the operations by their time, so that the largest cost stands first.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._profiler: profile | None = None
        self._begin = 0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._begin = trainer.global_step + min(FIRST, max(trainer.max_steps - STEPS, 0))

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch, batch_idx: int
    ) -> None:
        starts = trainer.global_step == self._begin and trainer.is_global_zero
        if starts and self._profiler is None and not (self.folder / "trace.json").exists():
            self._profiler = profile(activities=_activities(), record_shapes=True)
            self._profiler.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx: int
    ) -> None:
        if self._profiler is not None and trainer.global_step >= self._begin + STEPS:
            self._write()

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self._profiler is not None:  # the run is shorter
            self._write()

    def _write(self) -> None:
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(self.folder / "trace.json"))
        order = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = profiler.key_averages().table(sort_by=order, row_limit=30)
        (self.folder / "costs.txt").write_text(table + "\n")


def _activities() -> list[ProfilerActivity]:
    found = [ProfilerActivity.CPU]
    return [*found, ProfilerActivity.CUDA] if torch.cuda.is_available() else found
