"""`cmgems plan`: what an experiment costs, before it runs.

FLOPs and memory follow from sizes and lengths (`cmgems.cost.flops`, `cmgems.cost.memory`). The
memory of the device is known and the speed of its matrix products is measured. From these to tokens
per second an efficiency has to be assumed, unless a few steps are timed (`measure`).
"""

import math
import time
from typing import NamedTuple

import torch
import torch.nn.functional as F

from cmgems.config.encoders import max_positions
from cmgems.config.schema import Data, Experiment
from cmgems.cost.device import Memory, device_memory, device_name, measure_matmul_speed, synchronize
from cmgems.cost.flops import flops_per_token, parameters
from cmgems.cost.memory import FLOAT, Micro, StepMemory, step_memory
from cmgems.models.build import encoder_config
from cmgems.models.encoder import EncoderConfig, MaskedLanguageModel
from cmgems.models.layouts import SequenceLayout
from cmgems.tokenization import BytePairs, Tokenization, build_tokenization
from cmgems.tokenization.base import Count, width
from cmgems.training.optim import build_optimizer
from cmgems.utils.rng import seed_torch

ASSUMED_EFFICIENCY = 0.5  # fraction of the speed of matrix products that training reaches
USABLE_FRACTION = 0.85  # of a device's memory: allocators lose some between blocks
TIMED_STEPS = 3
# Bases per learned byte pair, as a fraction of those of tokens that are all equally likely: 0.885
# to 0.891 on human DNA, for vocabularies of 64 to 4,096.
BYTE_PAIR_LENGTH = 0.89


class UnlearnedBytePairs(NamedTuple):
    """What a plan asks of byte pairs that only the run will learn from its genome."""

    vocab_size: int

    def num_tokens(self, bases: Count) -> Count:
        """As many as are expected, [CLS] and [SEP] included."""
        thousandths = round(1000 * BYTE_PAIR_LENGTH * math.log(self.vocab_size, 4))
        return (bases * 1000 + thousandths - 1) // thousandths + 2

    def max_tokens(self, bases: int) -> int:
        return bases + 2


class Windows(NamedTuple):
    """Expected lengths of the windows of an experiment, in tokens with [CLS] and [SEP]."""

    mean_length: float  # over windows
    mean_length_per_token: float  # over tokens, of the length of their window: what attention sees
    max_length: int
    masked_fraction: float  # of all tokens


class Speed(NamedTuple):
    """Speed of one device."""

    tokens_per_second: float
    matmul_flops_per_second: float
    efficiency: float  # fraction of the matrix products' speed that training reaches
    is_measured: bool  # tokens per second are measured, rather than the efficiency assumed


class Plan(NamedTuple):
    """What an experiment costs."""

    experiment: Experiment
    config: EncoderConfig
    windows: Windows
    flops_per_token: float
    memory: StepMemory  # of the process of one device
    device: str
    device_memory: Memory  # the part that one process may use
    speed: Speed
    max_micro_batch_size: int | None  # the largest that fits and divides the batch

    @property
    def parameters(self) -> int:
        return parameters(self.config)

    @property
    def tokens(self) -> float:
        """Expected tokens of the whole run."""
        train = self.experiment.train
        return self.windows.mean_length * train.global_batch_size * train.max_steps

    @property
    def fits(self) -> bool:
        """Whether a step with the experiment's micro-batch fits into the memory."""
        return self.memory.total <= USABLE_FRACTION * self.device_memory.total

    @property
    def seconds(self) -> float:
        """Expected seconds of training, if devices add up; processes on a CPU share its cores."""
        train = self.experiment.train
        on_cpu = self.device.startswith("cpu")
        devices = train.nodes * (1 if on_cpu else train.devices)
        return self.tokens / (self.speed.tokens_per_second * devices)


def plan(experiment: Experiment, device: torch.device, measure: bool = False) -> Plan:
    """Compute what an experiment costs on a device.

    Parameters
    ----------
    experiment : Experiment
    device : torch.device
    measure : bool
        Time a few steps, instead of assuming an efficiency.
    """
    config = planned_encoder(experiment)
    windows = estimate_windows(experiment)
    per_token = flops_per_token(config, windows.mean_length_per_token, windows.masked_fraction)
    available = memory_per_process(experiment, device)
    matmul_speed = measure_matmul_speed(device, compute_dtype(experiment))
    if measure:
        tokens_per_second = time_steps(experiment, config, windows, device)
        efficiency = tokens_per_second * per_token / matmul_speed
    else:
        tokens_per_second = ASSUMED_EFFICIENCY * matmul_speed / per_token
        efficiency = ASSUMED_EFFICIENCY
    return Plan(
        experiment,
        config,
        windows,
        per_token,
        estimate_memory(experiment, experiment.train.micro_batch_size, device),
        device_name(device),
        available,
        Speed(tokens_per_second, matmul_speed, efficiency, measure),
        largest_micro_batch(experiment, device, available),
    )


def planned_tokens(data: Data) -> Tokenization | UnlearnedBytePairs:
    """The tokenization of an experiment; nothing is learned for a plan."""
    if data.tokenization == BytePairs.name and not data.tokenizer:
        return UnlearnedBytePairs(data.bpe_vocab_size)
    return build_tokenization(data)


def planned_encoder(experiment: Experiment) -> EncoderConfig:
    """The encoder of an experiment, with the vocabulary that its keys ask for."""
    return encoder_config(experiment, planned_tokens(experiment.data).vocab_size)


def compute_dtype(experiment: Experiment) -> torch.dtype:
    return torch.float32 if experiment.train.precision.startswith("32") else torch.bfloat16


def memory_per_process(experiment: Experiment, device: torch.device) -> Memory:
    """The memory that one process may use: the processes on one machine share that of a CPU."""
    total, free = device_memory(device)
    processes = experiment.train.devices if device.type == "cpu" else 1
    return Memory(total // processes, free // processes)


def estimate_windows(experiment: Experiment) -> Windows:
    """Expected lengths, as if no window ended early at a gap of the genome."""
    data, special = experiment.data, 2
    tokenization = planned_tokens(data)
    bases = torch.arange(data.min_window_length, data.window_length + 1)
    positions = max_positions(experiment.model)
    # Of byte pairs these are expected numbers, and windows end where the positions do.
    uniform = tokenization.num_tokens(bases).clamp(max=positions).double()
    full = data.full_length_fraction
    full_length = min(tokenization.num_tokens(data.window_length), positions)
    mean = full * full_length + (1 - full) * float(uniform.mean())
    square = full * full_length**2 + (1 - full) * float(uniform.square().mean())
    masked_fraction = _token_fraction(experiment, tokenization) * (1 - special / mean)
    max_length = min(tokenization.max_tokens(data.window_length), positions)
    return Windows(mean, square / mean, max_length, masked_fraction)


def _token_fraction(
    experiment: Experiment, tokenization: Tokenization | UnlearnedBytePairs
) -> float:
    """Expected fraction of masked tokens. Of a budget in hidden bases it is that of windows which
    hide bases each for itself: somewhat more than in fact, as adjacent windows hide some together.
    """
    masking = experiment.masking
    # Byte pairs do not overlap: as many of their bases are hidden as of the tokens.
    if masking.budget == "tokens" or isinstance(tokenization, UnlearnedBytePairs):
        return masking.mask_ratio
    windows = tokenization.windows
    plain = "random" in experiment.curriculum.strategies
    tokens = width(windows.plain if plain else windows.wide)
    return 1 - (1 - masking.mask_ratio) ** (tokens / (tokens - windows.overlap))


def estimate_memory(experiment: Experiment, micro_batch: int, device: torch.device) -> StepMemory:
    """Memory of a step in the process of one device, if all its windows have the full length."""
    train, windows = experiment.train, estimate_windows(experiment)
    ranks = train.devices * train.nodes
    micro = Micro(
        tokens=micro_batch * windows.max_length,
        longest=windows.max_length,
        masked=windows.masked_fraction,
        element=FLOAT if compute_dtype(experiment) == torch.float32 else FLOAT // 2,
        accumulated=train.global_batch_size > micro_batch * ranks,
        device=device.type,
    )
    sharded, optimizer = train.strategy == "fsdp", experiment.optim.name
    return step_memory(planned_encoder(experiment), micro, ranks, sharded, optimizer)


def largest_micro_batch(experiment: Experiment, device: torch.device, memory: Memory) -> int | None:
    """The largest micro-batch whose step fits and that divides the batch of a device."""
    train = experiment.train
    batch_size = train.global_batch_size // (train.devices * train.nodes)
    for size in range(batch_size, 0, -1):
        if batch_size % size == 0:
            needed = estimate_memory(experiment, size, device).total
            if needed <= USABLE_FRACTION * memory.total:
                return size
    return None


def time_steps(
    experiment: Experiment, config: EncoderConfig, windows: Windows, device: torch.device
) -> float:
    """Tokens per second of bare steps: random tokens of the experiment's mix of lengths, forward
    and backward pass and optimizer, without masking, metrics, validation and saving."""
    model = MaskedLanguageModel(config).to(device)
    model.encoder.compute_dtype = compute_dtype(experiment)
    optimizer = build_optimizer(model, experiment.optim)
    batches = [
        _random_batch(experiment, config, windows, n, device) for n in range(TIMED_STEPS + 1)
    ]
    start, tokens = 0.0, 0
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
    config: EncoderConfig,
    windows: Windows,
    number: int,
    device: torch.device,
) -> tuple[torch.Tensor, SequenceLayout, torch.Tensor]:
    data, size = experiment.data, experiment.train.micro_batch_size
    tokenization = planned_tokens(data)
    with torch.random.fork_rng(devices=[]):
        seed_torch(number, "plan")
        full = torch.rand(size) < data.full_length_fraction
        drawn = torch.randint(data.min_window_length, data.window_length + 1, (size,))
        bases = drawn.where(~full, data.window_length)
        tokens = tokenization.num_tokens(bases).clamp(max=config.max_position_embeddings)
        lengths = tokens.sort(descending=True).values.tolist()
        ids_T = torch.randint(5, config.vocab_size, (sum(lengths),), dtype=torch.int32)
        at_M = (torch.rand(sum(lengths)) < windows.masked_fraction).nonzero()[:, 0]
    return ids_T.to(device), SequenceLayout.of(tuple(lengths), device), at_M.to(device)


def memory_advice(experiment: Experiment, device: torch.device) -> str:
    """What to do about a step that does not fit, in one line."""
    train = experiment.train
    memory = memory_per_process(experiment, device)
    needed = estimate_memory(experiment, train.micro_batch_size, device).total
    message = (
        f"a step of train.micro_batch_size = {train.micro_batch_size} windows needs about "
        f"{needed / 1e9:.1f} GB, {device_name(device)} has {memory.total / 1e9:.1f} GB per "
        f"process, {memory.free / 1e9:.1f} GB of them free"
    )
    size = largest_micro_batch(experiment, device, memory._replace(total=memory.free))
    if size is None or size >= train.micro_batch_size:
        smaller = _next_divisor(
            train.global_batch_size // (train.devices * train.nodes), train.micro_batch_size
        )
        if smaller is None:
            return (
                f"{message}; wanted a smaller model or data.window_length, or train.strategy=fsdp"
            )
        size = smaller
    accumulate = train.global_batch_size // (size * train.devices * train.nodes)
    return f"{message}; try train.micro_batch_size={size} ({accumulate} of them make the same step)"


def _next_divisor(batch: int, below: int) -> int | None:
    """The largest divisor of a batch size below a number."""
    return max((n for n in range(1, below) if batch % n == 0), default=None)
