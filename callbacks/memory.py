"""Memory that the C library keeps for itself."""

import ctypes
import os
from pathlib import Path

import lightning as L

GROWTH = 384 << 20  # bytes; less costs more time, more costs a run its 1 GB over the model
STATM = Path("/proc/self/statm")  # of Linux: sizes in pages, the second one is what is resident


class TrimMemory(L.Callback):
    """Gives free heap back to the system whenever the process has grown by `growth` bytes.

    Every batch has other shapes, and glibc's heap fragments under large blocks of ever new sizes:
    without this, 300 steps of the quickstart grew from 0.68 to 1.95 GB. (mallopt's mmap threshold
    stops the growth too, but its page faults cost a third of the time.)
    """

    def __init__(self, growth: int = GROWTH):
        self.growth = growth
        # glibc alone has it; other C libraries are left alone
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if STATM.exists() else None
        self._most = 0  # bytes that may be resident before the next trim

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx: int
    ) -> None:
        if self._trim is not None and resident() > self._most:
            self._trim(0)
            self._most = resident() + self.growth


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
