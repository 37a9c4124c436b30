"""Tokens a second, and what became of the time of training."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import lightning as L
import torch

from cmgems.callbacks.training_log import TrainingLog, write
from cmgems.cost.device import measure_matmul_speed, peak_memory
from cmgems.cost.flops import flops_per_token
from cmgems.data_modules.windows import WindowBatch
from cmgems.tokenization import Tokenization
from cmgems.training.module import Pretraining

PARTS = ("data", "forward", "backward", "optimizer")  # the rest is Lightning and callbacks


class Throughput(L.Callback):
    """Counts tokens and seconds of training, over all sittings: not those of validation, probes and
    saving.

    On a GPU the parts of a step are timed by events of the device, which are read together with
    what is logged; the host waits for nothing else. There the time in `data` is the host's, and may
    lie under the device's.

    Parameters
    ----------
    every : int
        Steps between two lines of the log.
    tokenization : Tokenization
    log : TrainingLog
        Logs as often, and before this callback.
    """

    def __init__(self, every: int, tokenization: Tokenization, log: TrainingLog):
        self.every, self.tokenization, self.training_log = every, tokenization, log
        self.tokens = 0  # of all ranks, [CLS] and [SEP] included
        self.bases = 0  # of all ranks
        self.seconds = 0.0
        self.flops = 0.0  # of this rank
        self.parts = dict.fromkeys(PARTS, 0.0)  # seconds
        self.tokens_per_second = 0.0
        self.rate = 0.0  # of the device, FLOPs a second
        self._since: dict[str, float] = {}  # what had been counted at the last reading
        # this rank's tokens since the last collection, and the sum of squared lengths: FLOPs of
        # attention grow with it
        self._tokens = self._squares = 0
        self._started: float | None = None

    def on_train_start(self, trainer: L.Trainer, module: Pretraining) -> None:
        compute = module.model.encoder.compute_dtype or torch.float32
        self.rate = measure_matmul_speed(module.device, compute)
        self._device = module.device
        self._marks = _PhaseTimer(module.device)
        self._loaded = 0.0
        self._since = self._counted()
        self._tokens = self._squares = 0

    def on_train_batch_start(
        self, trainer: L.Trainer, module: Pretraining, batch: WindowBatch, batch_idx: int
    ) -> None:
        if self._started is None:
            self._started = time.perf_counter()
        self._marks.set("forward")

    def on_before_backward(self, trainer: L.Trainer, module: Pretraining, loss) -> None:
        self._marks.set("backward")

    def on_after_backward(self, trainer: L.Trainer, module: Pretraining) -> None:
        self._marks.set("optimizer")

    def on_train_batch_end(
        self, trainer: L.Trainer, module: Pretraining, outputs, batch: WindowBatch, batch_idx: int
    ) -> None:
        self._marks.set(None)
        lengths = [self.tokenization.num_tokens(bases) for bases in batch.bases]
        self.tokens += sum(lengths) * trainer.world_size
        self.bases += sum(batch.bases) * trainer.world_size
        self._tokens += sum(lengths)
        self._squares += sum(length * length for length in lengths)
        self._read_clock()
        step_ended = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if step_ended and trainer.global_step % self.every == 0:
            self._read(trainer, module)

    def _collect(self, trainer: L.Trainer, module: Pretraining) -> None:
        """Take in what the marks, the loader and the lengths say since the last time."""
        for part, seconds in self._marks.seconds().items():
            self.parts[part] += seconds
        loaded = trainer.datamodule.loading_seconds
        self.parts["data"] += loaded - self._loaded
        self._loaded = loaded
        if self._tokens:
            # The share is of tokens without [CLS] and [SEP], and of the last step logged.
            shape, share = (
                module.model.encoder.config,
                self.training_log.last_logged["masked_fraction"],
            )
            mean_length = self._squares / self._tokens
            self.flops += self._tokens * flops_per_token(shape, mean_length, share)
        self._tokens = self._squares = 0

    def _read(self, trainer: L.Trainer, module: Pretraining) -> None:
        """Log what has been counted since the last time."""
        self._collect(trainer, module)
        counted = self._counted()
        figures = self._figures({key: value - self._since[key] for key, value in counted.items()})
        self._since = counted
        self.tokens_per_second = figures["tokens_per_second"]
        figures["million_tokens"] = self.tokens / 1e6
        figures["peak_memory_gb"] = self._peak_memory()
        write(trainer, {f"speed/{name}": value for name, value in figures.items()})

    def _counted(self) -> dict[str, float]:
        counted = {name: getattr(self, name) for name in ("tokens", "bases", "seconds", "flops")}
        return counted | self.parts

    def _figures(self, counted: dict[str, float]) -> dict[str, float]:
        seconds = max(counted["seconds"], 1e-9)
        shares = {f"fraction_{part}": counted[part] / seconds for part in PARTS}
        shares["fraction_other"] = max(1.0 - sum(shares.values()), 0.0)
        return {
            "tokens_per_second": counted["tokens"] / seconds,
            "bases_per_second": counted["bases"] / seconds,
            "mfu": counted["flops"] / seconds / self.rate,
            **shares,
        }

    def results(self) -> dict[str, float]:
        """Figures of the whole run; memory and rate of this sitting. Empty if it took no step."""
        if not self.rate:
            return {}
        figures = self._figures(self._counted())
        return figures | {
            "matmul_flops_per_second": self.rate,
            "peak_memory_gb": self._peak_memory(),
        }

    def _peak_memory(self) -> float:
        """Of a CPU the process's, of a GPU what torch had given out; 10^9 bytes."""
        return peak_memory(self._device) / 1e9

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Around what happens between steps and is no training; the next step goes on."""
        self._stop_clock()
        yield

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        # Until the next step begins: what others save and draw after a validation is no training.
        self._stop_clock()
        if trainer.state.fn == "fit" and self.training_log.last_logged:
            self._collect(trainer, module)

    def _stop_clock(self) -> None:
        self._read_clock()
        self._started = None

    def _read_clock(self) -> None:
        now = time.perf_counter()
        if self._started is not None:
            self.seconds += now - self._started
        self._started = now

    def state_dict(self) -> dict:
        return self._counted()

    def load_state_dict(self, state: dict) -> None:
        for name in ("tokens", "bases", "seconds", "flops"):
            setattr(self, name, state[name])
        self.parts = {part: state[part] for part in PARTS}


class _PhaseTimer:
    """Moments at which parts of a step begin, by the device's own clock."""

    def __init__(self, device: torch.device):
        self.on_gpu = device.type == "cuda"
        self._marks: list[tuple[str | None, object]] = []

    def set(self, part: str | None) -> None:
        """From here on it is this part; None: none of them."""
        if not self.on_gpu:
            self._marks.append((part, time.perf_counter()))
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append((part, event))

    def seconds(self) -> dict[str, float]:
        """Of each part since the last call; waits for a GPU."""
        marks, self._marks = self._marks, []
        if self.on_gpu and marks:
            marks[-1][1].synchronize()
        found: dict[str, float] = {}
        for (part, begin), (_, end) in pairwise(marks):
            if part is not None:
                found[part] = found.get(part, 0.0) + self._between(begin, end)
        return found

    def _between(self, begin, end) -> float:
        return begin.elapsed_time(end) / 1e3 if self.on_gpu else end - begin
