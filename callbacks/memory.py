"""Memory that the C library keeps for itself."""

import ctypes

import lightning as L


class TrimMemory(L.Callback):
    """Gives free heap back to the system every `every` micro-batches.

    Every batch has other shapes, and glibc's heap fragments under large blocks of ever new sizes:
    without this, a run of the quickstart grew from 0.6 to 1.7 GB. (mallopt's mmap threshold
    stops the growth too, but its page faults cost a third of the time.)
    """

    def __init__(self, every: int):
        self.every = every
        # glibc alone has it; other C libraries are left alone
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx: int
    ) -> None:
        if self._trim is not None and batch_idx % self.every == 0:
            self._trim(0)
