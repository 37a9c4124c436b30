"""Tokens per second, and how the time of training is spent."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT

from cmgems.callbacks.training_log import TrainingLog, write
from cmgems.cost.device import measure_matmul_speed, peak_memory
from cmgems.cost.flops import flops_per_token
from cmgems.data_modules.windows import WindowBatch
from cmgems.tokenization import Tokenization
from cmgems.training.module import Pretraining

# Phases of a step; the rest of its time is spent in Lightning and callbacks.
PHASES = ("data", "forward", "backward", "optimizer")


class Throughput(L.Callback):
    """Counts tokens and seconds of training, over all sessions of a run, without the time of
    validation, probes and saving.

    On a GPU the phases of a step are timed by events of the device, which are read together with
    what is logged, so that the host does not synchronize more often. There the time of `data` is
    the host's, and may overlap with the device's.

    Parameters
    ----------
    every : int
        Steps between two lines of the log.
    tokenization : Tokenization
    log : TrainingLog
        Logs as often, and before this callback.

    Attributes
    ----------
    tokens, bases : int
        Of all ranks, [CLS] and [SEP] included in the tokens.
    seconds : float
    flops : float
        Of this rank.
    phases : dict of phase -> float
        Seconds.
    tokens_per_second : float
        Of all ranks, between the last two lines of the log.
    """

    def __init__(self, every: int, tokenization: Tokenization, log: TrainingLog):
        self.every, self.tokenization, self.training_log = every, tokenization, log
        self.tokens = self.bases = 0
        self.seconds = self.flops = 0.0
        self.phases = dict.fromkeys(PHASES, 0.0)
        self.tokens_per_second = 0.0
        self.device_speed = 0.0  # FLOPs per second of large matrix products
        self._at_last_log: dict[str, float] = {}  # what had been counted then
        self._of_this_rank = torch.zeros(2, dtype=torch.int64)  # tokens, bases; not yet added up
        # this rank's tokens since the last collection, and the sum of squared lengths: FLOPs of
        # attention grow with it
        self._tokens = self._squares = 0
        self._started: float | None = None

    def setup(self, trainer: L.Trainer, module: Pretraining, stage: str) -> None:
        self._module = module  # for `state_dict`, which Lightning calls without it

    def on_train_start(self, trainer: L.Trainer, module: Pretraining) -> None:
        compute = module.model.encoder.compute_dtype or torch.float32
        self.device_speed = measure_matmul_speed(module.device, compute)
        self._device = module.device
        self._timer = PhaseTimer(module.device)
        self._loading_seconds = 0.0
        self._at_last_log = self._counted()
        self._tokens = self._squares = 0

    def on_train_batch_start(
        self, trainer: L.Trainer, module: Pretraining, batch: WindowBatch, batch_idx: int
    ) -> None:
        if self._started is None:
            self._started = time.perf_counter()
        self._timer.start("forward")

    def on_before_backward(
        self, trainer: L.Trainer, module: Pretraining, loss: torch.Tensor
    ) -> None:
        self._timer.start("backward")

    def on_after_backward(self, trainer: L.Trainer, module: Pretraining) -> None:
        self._timer.start("optimizer")

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: Pretraining,
        outputs: STEP_OUTPUT,
        batch: WindowBatch,
        batch_idx: int,
    ) -> None:
        self._timer.start(None)
        lengths = [tokens + 2 for tokens in batch.content_tokens(self.tokenization)]
        self._of_this_rank += torch.tensor([sum(lengths), sum(batch.bases)])
        self._tokens += sum(lengths)
        self._squares += sum(length * length for length in lengths)
        self._read_clock()
        step_ended = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if step_ended and trainer.global_step % self.every == 0:
            self._log(trainer, module)

    def _collect(self, trainer: L.Trainer, module: Pretraining) -> None:
        """Add up what the timer, the loader and the lengths have counted since the last call."""
        self._add_up_ranks()
        for phase, seconds in self._timer.elapsed().items():
            self.phases[phase] += seconds
        # Lightning sets the data module without declaring it.
        loading_seconds = trainer.datamodule.loading_seconds  # type: ignore[attr-defined]
        self.phases["data"] += loading_seconds - self._loading_seconds
        self._loading_seconds = loading_seconds
        if self._tokens:
            # The fraction is of tokens without [CLS] and [SEP], and of the last step logged.
            masked_fraction = self.training_log.last_logged["masked_fraction"]
            mean_length = self._squares / self._tokens
            config = module.model.encoder.config
            self.flops += self._tokens * flops_per_token(config, mean_length, masked_fraction)
        self._tokens = self._squares = 0

    def _add_up_ranks(self) -> None:
        """Ranks have windows of other lengths: all of them call it, and add up what they had."""
        counts = self._module.add_up(self._of_this_rank.to(self._module.device))
        tokens, bases = counts.tolist()
        self.tokens, self.bases = self.tokens + tokens, self.bases + bases
        self._of_this_rank.zero_()

    def _log(self, trainer: L.Trainer, module: Pretraining) -> None:
        """Log what has been counted since the last call."""
        self._collect(trainer, module)
        counted = self._counted()
        metrics = self._metrics({key: x - self._at_last_log[key] for key, x in counted.items()})
        self._at_last_log = counted
        self.tokens_per_second = metrics["tokens_per_second"]
        metrics["million_tokens"] = self.tokens / 1e6
        metrics["peak_memory_gb"] = self._peak_memory()
        write(trainer, {f"speed/{name}": value for name, value in metrics.items()})

    def _counted(self) -> dict[str, float]:
        counted = {name: getattr(self, name) for name in ("tokens", "bases", "seconds", "flops")}
        return counted | self.phases

    def _metrics(self, counted: dict[str, float]) -> dict[str, float]:
        seconds = max(counted["seconds"], 1e-9)
        fractions = {f"fraction_{phase}": counted[phase] / seconds for phase in PHASES}
        fractions["fraction_other"] = max(1.0 - sum(fractions.values()), 0.0)
        return {
            "tokens_per_second": counted["tokens"] / seconds,
            "bases_per_second": counted["bases"] / seconds,
            "mfu": counted["flops"] / seconds / self.device_speed,
            **fractions,
        }

    def results(self) -> dict[str, float]:
        """Metrics of the whole run; memory and the device's speed are those since the last resume.
        Empty if there was no step since then."""
        if not self.device_speed:
            return {}
        return self._metrics(self._counted()) | {
            "matmul_flops_per_second": self.device_speed,
            "peak_memory_gb": self._peak_memory(),
        }

    def _peak_memory(self) -> float:
        """10^9 bytes: on a CPU of the process, on a GPU of torch's tensors."""
        return peak_memory(self._device) / 1e9

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock for what is not training; it runs again from the next step on."""
        self._stop_clock()
        yield

    def on_validation_start(self, trainer: L.Trainer, module: Pretraining) -> None:
        # Until the next step begins: saving and plotting after a validation are not training.
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

    def on_train_end(self, trainer: L.Trainer, module: Pretraining) -> None:
        self._add_up_ranks()

    def state_dict(self) -> dict[str, Any]:
        """Called on all ranks when a checkpoint is made."""
        self._add_up_ranks()
        return self._counted()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ("tokens", "bases", "seconds", "flops"):
            setattr(self, name, state[name])
        self.phases = {phase: state[phase] for phase in PHASES}


class PhaseTimer:
    """Times the phases of steps, by the device's own clock."""

    def __init__(self, device: torch.device):
        self.on_gpu = device.type == "cuda"
        # each phase with the time of its begin: seconds, or an event of the GPU
        self._starts: list[tuple[str | None, Any]] = []

    def start(self, phase: str | None) -> None:
        """Begin a phase, and end the one before; None: only end it."""
        if not self.on_gpu:
            self._starts.append((phase, time.perf_counter()))
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._starts.append((phase, event))

    def elapsed(self) -> dict[str, float]:
        """Seconds of each phase since the last call; synchronizes with a GPU."""
        starts, self._starts = self._starts, []
        if self.on_gpu and starts:
            starts[-1][1].synchronize()
        seconds: dict[str, float] = {}
        for (phase, begin), (_, end) in pairwise(starts):
            if phase is not None:
                seconds[phase] = seconds.get(phase, 0.0) + self._seconds_between(begin, end)
        return seconds

    def _seconds_between(self, begin: Any, end: Any) -> float:
        return begin.elapsed_time(end) / 1e3 if self.on_gpu else end - begin
