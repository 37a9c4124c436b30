"""What a device can do, measured: the rate of its matrix products, and the memory in use."""

import resource
import sys
import time

import torch

from cmgems.models.linear import linear

SIDE = {"cpu": 1024, "cuda": 8192}  # of the square matrices: large enough for the full rate
REPEATS = 12


@torch.no_grad()
def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOPs a second of a large matrix product: the best of a few, a fraction of a second in all.

    On a CPU with as many threads as torch uses, and by the library that the encoder uses.
    """
    side = SIDE.get(device.type, 2048)
    one, other = torch.ones(side, side, dtype=dtype), torch.ones(side, side, dtype=dtype)
    one, other = one.to(device), other.to(device)
    best = min(_seconds(one, other) for _ in range(REPEATS))
    return 2 * side**3 / best


def _seconds(one: torch.Tensor, other: torch.Tensor) -> float:
    wait_for(one.device)
    start = time.perf_counter()
    linear(one, other)
    wait_for(one.device)
    return time.perf_counter() - start


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that tensors took on a GPU, or that this process took on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    kilobyte = 1 if sys.platform == "darwin" else 1024  # macOS counts in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte
