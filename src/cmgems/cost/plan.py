"""`cmgems plan`: what an experiment costs, before it runs.

Sizes and lengths give FLOPs and memory (`cmgems.cost.flops`, `cmgems.cost.memory`); the device
gives its memory and its rate of matrix products, which is measured. From these to tokens per second
an efficiency has to be assumed, unless a few steps are timed (`measure`).
"""

import time
from typing import NamedTuple

import torch
import torch.nn.functional as F

from cmgems.config.schema import Experiment
from cmgems.cost.device import Memory, device_memory, device_name, measure_matmul_speed, synchronize
from cmgems.cost.flops import flops_per_token, parameters
from cmgems.cost.memory import FLOAT, Micro, StepMemory, step_memory
from cmgems.models.attention import SequenceLayout
from cmgems.models.encoder import EncoderConfig
from cmgems.models.presets import encoder_config
from cmgems.tokenization import build_tokenization
from cmgems.utils.rng import seed_torch

ASSUMED_EFFICIENCY = 0.5  # of the rate of matrix products
USABLE = 0.85  # of a device's memory: allocators lose some between blocks
STEPS = 3  # timed


class Windows(NamedTuple):
    """Lengths of the windows of an experiment, in tokens with [CLS] and [SEP]."""

    mean: float  # of all windows
    of_a_token: float  # mean over tokens of the length of their window: what attention sees
    longest: int
    masked: float  # share of all tokens that is predicted


class Speed(NamedTuple):
    """Tokens a second of one device."""

    tokens_per_second: float
    matmul_flops_per_second: float  # FLOPs a second
    efficiency: float  # share of it that training uses
    measured: bool  # the first, rather than the last


class Plan(NamedTuple):
    """What an experiment costs."""

    experiment: Experiment
    shape: EncoderConfig
    windows: Windows
    flops_per_token: float
    memory: StepMemory  # of the process of one device
    device: str
    device_memory: Memory  # what one process may take of it
    speed: Speed
    fitting: int | None  # the largest micro-batch that fits and divides the batch

    @property
    def parameters(self) -> int:
        return parameters(self.shape)

    @property
    def tokens(self) -> float:
        """Of the whole run."""
        train = self.experiment.train
        return self.windows.mean * train.global_batch_size * train.max_steps

    @property
    def fits(self) -> bool:
        return self.memory.total <= USABLE * self.device_memory.total

    @property
    def seconds(self) -> float:
        """Of training, if devices add up; processes on a CPU share its cores."""
        train = self.experiment.train
        on_cpu = self.device.startswith("cpu")
        devices = train.nodes * (1 if on_cpu else train.devices)
        return self.tokens / (self.speed.tokens_per_second * devices)


def plan(experiment: Experiment, device: torch.device, measure: bool = False) -> Plan:
    """Work out what an experiment costs on a device; with `measure` after timing a few steps."""
    shape = encoder_config(experiment)
    windows = estimate_windows(experiment)
    per_token = flops_per_token(shape, windows.of_a_token, windows.masked)
    share = memory_per_process(experiment, device)
    rate = measure_matmul_speed(device, compute_dtype(experiment))
    if measure:
        tokens_per_second = time_steps(experiment, shape, windows, device)
        speed = Speed(tokens_per_second, rate, tokens_per_second * per_token / rate, True)
    else:
        speed = Speed(ASSUMED_EFFICIENCY * rate / per_token, rate, ASSUMED_EFFICIENCY, False)
    return Plan(
        experiment,
        shape,
        windows,
        per_token,
        estimate_memory(experiment, experiment.train.micro_batch_size, device),
        device_name(device),
        share,
        speed,
        largest_micro_batch(experiment, device, share),
    )


def compute_dtype(experiment: Experiment) -> torch.dtype:
    return torch.float32 if experiment.train.precision.startswith("32") else torch.bfloat16


def memory_per_process(experiment: Experiment, device: torch.device) -> Memory:
    """What one process may take: those on one machine share a CPU's memory."""
    memory = device_memory(device)
    sharers = experiment.train.devices if device.type == "cpu" else 1
    return Memory(*(part // sharers for part in memory))


def estimate_windows(experiment: Experiment) -> Windows:
    """Expected lengths; stretches between gaps that end a window early are left out of account."""
    data, special = experiment.data, 2
    tokenization = build_tokenization(data)
    longest, shortest = map(tokenization.num_tokens, (data.window_length, data.min_window_length))
    uniform = torch.arange(shortest, longest + 1, dtype=torch.float64)
    share = data.full_length_fraction
    mean = share * longest + (1 - share) * float(uniform.mean())
    square = share * longest**2 + (1 - share) * float(uniform.square().mean())
    masked = experiment.masking.mask_ratio * (1 - special / mean)
    return Windows(mean, square / mean, longest, masked)


def estimate_memory(experiment: Experiment, micro_batch: int, device: torch.device) -> StepMemory:
    """Memory of a step of the process of one device, if all its windows have the full length."""
    train, windows = experiment.train, estimate_windows(experiment)
    ranks = train.devices * train.nodes
    micro = Micro(
        tokens=micro_batch * windows.longest,
        longest=windows.longest,
        masked=windows.masked,
        element=FLOAT if compute_dtype(experiment) == torch.float32 else FLOAT // 2,
        accumulated=train.global_batch_size > micro_batch * ranks,
        device=device.type,
    )
    return step_memory(encoder_config(experiment), micro, ranks, train.strategy == "fsdp")


def largest_micro_batch(experiment: Experiment, device: torch.device, memory: Memory) -> int | None:
    """The largest micro-batch whose step fits and that divides the batch of a device."""
    train = experiment.train
    on_each = train.global_batch_size // (train.devices * train.nodes)
    for size in range(on_each, 0, -1):
        if on_each % size == 0:
            need = estimate_memory(experiment, size, device).total
            if need <= USABLE * memory.total:
                return size
    return None


def time_steps(
    experiment: Experiment, shape: EncoderConfig, windows: Windows, device: torch.device
) -> float:
    """Tokens a second of bare steps: random tokens of the experiment's mix of lengths, forward,
    backward and optimiser; no masking, figures, validation or saving."""
    from cmgems.models.build import build_model
    from cmgems.training.optim import adamw

    model = build_model(experiment).to(device)
    model.encoder.compute_dtype = compute_dtype(experiment)
    optimizer = adamw(model, experiment.optim)
    batches = [_random_batch(experiment, shape, windows, n, device) for n in range(STEPS + 1)]
    start = tokens = 0
    for number, (ids_T, layout, at_M) in enumerate(batches):
        if number == 1:  # the first warms up
            synchronize(device)
            start = time.perf_counter()
        logits_MV = model(ids_T, layout, at_M).float()
        F.cross_entropy(logits_MV, ids_T[at_M].long()).backward()
        optimizer.step()
        optimizer.zero_grad()
        tokens += len(ids_T) if number else 0
    synchronize(device)
    return tokens / (time.perf_counter() - start)


def _random_batch(
    experiment: Experiment,
    shape: EncoderConfig,
    windows: Windows,
    number: int,
    device: torch.device,
) -> tuple[torch.Tensor, SequenceLayout, torch.Tensor]:
    data, size = experiment.data, experiment.train.micro_batch_size
    shortest = build_tokenization(data).num_tokens(data.min_window_length)
    with torch.random.fork_rng(devices=[]):
        seed_torch(number, "plan")
        full = torch.rand(size) < data.full_length_fraction
        drawn = torch.randint(shortest, windows.longest + 1, (size,))
        lengths = drawn.where(~full, windows.longest).sort(descending=True).values.tolist()
        ids_T = torch.randint(5, shape.vocab_size, (sum(lengths),), dtype=torch.int32)
        at_M = (torch.rand(sum(lengths)) < windows.masked).nonzero()[:, 0]
    return ids_T.to(device), SequenceLayout.of(tuple(lengths), device), at_M.to(device)


def memory_advice(experiment: Experiment, device: torch.device) -> str:
    """What to do about a step that does not fit, in one line."""
    train = experiment.train
    memory = memory_per_process(experiment, device)
    need = estimate_memory(experiment, train.micro_batch_size, device).total
    told = (
        f"a step of train.micro_batch_size = {train.micro_batch_size} windows needs about "
        f"{need / 1e9:.1f} "
        f"GB, {device_name(device)} has {memory.total / 1e9:.1f} GB a process, "
        f"{memory.free / 1e9:.1f} GB of them free"
    )
    size = largest_micro_batch(experiment, device, memory._replace(total=memory.free))
    if size is None or size >= train.micro_batch_size:
        smaller = _next_divisor(
            train.global_batch_size // (train.devices * train.nodes), train.micro_batch_size
        )
        if smaller is None:
            return f"{told}; wanted a smaller model or data.window_length, or train.strategy=fsdp"
        size = smaller
    accumulate = train.global_batch_size // (size * train.devices * train.nodes)
    return f"{told}; try train.micro_batch_size={size} ({accumulate} of them make the same step)"


def _next_divisor(batch: int, below: int) -> int | None:
    return max((n for n in range(1, below) if batch % n == 0), default=None)
