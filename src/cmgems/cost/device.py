"""The device of a run: which it is, its memory, and the measured speed of its matrix products."""

import functools
import os
import resource
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

from cmgems.config.schema import Train
from cmgems.errors import UserError
from cmgems.models.linear import linear

SIDE = {"cpu": 1024, "cuda": 8192}  # of the square matrices: large enough for the full speed
REPEATS = 12
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container


@functools.cache
@torch.no_grad()
def measure_matmul_speed(device: torch.device, dtype: torch.dtype) -> float:
    """FLOPs per second of a large matrix product: the best of a few, a fraction of a second in all.

    On a CPU with as many threads as torch uses, and by the library that the encoder uses.
    """
    side = SIDE.get(device.type, 2048)
    a, b = (torch.ones(side, side, dtype=dtype).to(device) for _ in range(2))
    best = min(_time_product(a, b) for _ in range(REPEATS))
    return 2 * side**3 / best


def _time_product(a: torch.Tensor, b: torch.Tensor) -> float:
    """Seconds of one matrix product."""
    synchronize(a.device)
    start = time.perf_counter()
    linear(a, b)
    synchronize(a.device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int:
    """Maximum so far, bytes: of torch's tensors on a GPU, of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    kilobyte = 1 if sys.platform == "darwin" else 1024  # macOS counts in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte


class Memory(NamedTuple):
    """Memory of a device, bytes."""

    total: int
    free: int


def choose_device(wanted: str, key: str) -> torch.device:
    """A CUDA GPU if there is one, unless another device is wanted.

    Parameters
    ----------
    wanted : str
        `auto`, or torch's or Lightning's name of a device.
    key : str
        The config key that says so.

    Raises
    ------
    UserError
        If a CUDA GPU is wanted on a machine without.
    """
    found = torch.cuda.device_count()
    if wanted == "auto":
        wanted = "cuda" if found else "cpu"
    if wanted == "gpu":  # Lightning's word for either
        wanted = "mps" if not found and torch.backends.mps.is_available() else "cuda"
    if wanted == "cuda" and not found:
        raise UserError(f"{key}: found no CUDA GPU, wanted one; use cpu or auto")
    return torch.device(wanted)


def training_device(train: Train) -> torch.device:
    """The device of an experiment's training; each process has one of its own.

    Raises
    ------
    UserError
        If this machine does not have the devices that the experiment wants.
    """
    device, found = choose_device(train.accelerator, "train.accelerator"), torch.cuda.device_count()
    if device.type == "cuda" and train.devices > found:
        raise UserError(f"train.devices: found {train.devices}, this machine has {found} GPUs")
    return device


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


def device_name(device: torch.device) -> str:
    """Name of a device, for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
