"""Compiled kernels: how they are made, and which tensors they serve.

Compiled loops serve a tensor on a CPU, torch operations serve one on any other device. The choice
is made inside each operation (`cmgems.masking.ops`, `cmgems.tokenization.kmers.token_ids`); its
callers do not see it. The results are the same bit for bit.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numba import extending, njit
from torch import Tensor

_force_torch = False


@contextmanager
def force_torch_path() -> Iterator[None]:
    """Use the torch operations on a CPU as well: to test and to time the path of a GPU."""
    global _force_torch
    before, _force_torch = _force_torch, True
    try:
        yield
    finally:
        _force_torch = before


def use_cpu_kernels(tensor: Tensor) -> bool:
    """Whether the compiled kernels serve this tensor."""
    return tensor.device.type == "cpu" and not _force_torch and not torch.compiler.is_compiling()


def as_numpy(tensor: Tensor) -> np.ndarray:
    """The tensor as an array for the kernels, booleans as uint8.

    It shares the tensor's memory if that is contiguous, as the output of a kernel has to be.
    """
    array = tensor.contiguous().numpy()
    return array.view(np.uint8) if tensor.dtype == torch.bool else array


def as_uint32(keys_B2: Tensor) -> np.ndarray:
    """Random keys (int32, from `cmgems.utils.rng.sequence_keys`) as uint32 for the kernels."""
    return keys_B2.contiguous().numpy().view(np.uint32)


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function with numba, without the interpreter's lock.

    The machine code is saved next to the module, or in the user's cache folder where the package
    cannot be written to. Where neither can be (a container without a home) numba refuses to save
    it at all, with an error; it is then compiled in each process, which costs a few seconds.
    """
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        return njit(nogil=True)(function)


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """numba's decorator of this name, for type checkers: kernels call it without the context."""
    return extending.intrinsic(function)
