"""Tokens a second, and how long training took over all its sittings."""

import time

import lightning as L

from cmgems.callbacks.training_log import write


class Throughput(L.Callback):
    """Counts tokens and seconds of training; validation and saving are not counted.

    On a GPU the clock runs ahead of the device between two readings; the figures are right over
    the `every` steps between them, because logging waits for the device.
    """

    def __init__(self, every: int, k: int):
        self.every, self.k = every, k
        self.tokens = 0  # of all ranks, [CLS] and [SEP] included
        self.seconds = 0.0
        self.tokens_per_second = 0.0
        self._since = (0, 0.0)  # tokens and seconds at the last reading
        self._started: float | None = None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._started = time.perf_counter()
        self._since = (self.tokens, self.seconds)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx: int
    ) -> None:
        per_window = 3 - self.k  # k - 1 tokens fewer than bases, [CLS] and [SEP] more
        tokens = sum(batch.bases) + per_window * len(batch.bases)
        self.tokens += tokens * trainer.world_size
        self._read_clock()
        step_ended = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if step_ended and trainer.global_step % self.every == 0:
            tokens, seconds = self._since
            self.tokens_per_second = (self.tokens - tokens) / max(self.seconds - seconds, 1e-9)
            self._since = (self.tokens, self.seconds)
            write(
                trainer,
                {
                    "speed/tokens_per_second": self.tokens_per_second,
                    "speed/million_tokens": self.tokens / 1e6,
                },
            )

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._read_clock()
        self._started = None

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._started = time.perf_counter()

    def _read_clock(self) -> None:
        now = time.perf_counter()
        if self._started is not None:
            self.seconds += now - self._started
        self._started = now

    def state_dict(self) -> dict:
        return {"tokens": self.tokens, "seconds": self.seconds}

    def load_state_dict(self, state: dict) -> None:
        self.tokens, self.seconds = state["tokens"], state["seconds"]
