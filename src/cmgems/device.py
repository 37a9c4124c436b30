"""What the device at hand has and does: its memory, its rate of matrix products."""

import os
import time
from pathlib import Path
from typing import NamedTuple

import torch

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container
SIDE = 2048  # of the matrices on a CPU; a GPU gets 4 times that


class Memory(NamedTuple):
    """Bytes."""

    total: int
    free: int


def device_of(accelerator: str) -> torch.device:
    """torch's device of a Lightning accelerator."""
    return torch.device("cuda" if accelerator == "gpu" else accelerator)


def device_memory(device: torch.device) -> Memory:
    """Memory of a GPU, or of this machine (of the container, where that has less)."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return Memory(total, free)
    page = os.sysconf("SC_PAGE_SIZE")
    total, free = os.sysconf("SC_PHYS_PAGES") * page, os.sysconf("SC_AVPHYS_PAGES") * page
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():  # what the page cache holds is free as well
        lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.exists() else "max"
    total = total if limit == "max" else min(total, int(limit))
    return Memory(total, min(free, total))


def matmul_rate(device: torch.device, dtype: torch.dtype, seconds: float = 0.5) -> float:
    """FLOPs a second of large square matrix products, the best of those made in `seconds`."""
    side = SIDE * 4 if device.type == "cuda" else SIDE
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best, end = 0.0, time.perf_counter() + seconds
    warm = False
    while time.perf_counter() < end or best == 0.0:
        start = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if warm:
            best = max(best, 2 * side**3 / (time.perf_counter() - start))
        warm = True
    return best


def device_name(device: torch.device) -> str:
    """For people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
