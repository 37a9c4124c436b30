"""Which code serves a tensor: compiled loops on a CPU, tensor code on any other device.

The choice is made inside each operation (`cmgems.masking.ops`,
`cmgems.tokenization.kmers.token_ids`); who calls them does not see it. The results are the
same bit for bit.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numba import njit
from torch import Tensor

_tensor_code_only = False


@contextmanager
def force_torch_path() -> Iterator[None]:
    """Take the tensor code on a CPU as well: to test and to time the path that a GPU takes."""
    global _tensor_code_only
    before, _tensor_code_only = _tensor_code_only, True
    try:
        yield
    finally:
        _tensor_code_only = before


def use_cpu_kernels(tensor: Tensor) -> bool:
    """Whether the compiled kernels serve this tensor."""
    return (
        tensor.device.type == "cpu" and not _tensor_code_only and not torch.compiler.is_compiling()
    )


def as_numpy(tensor: Tensor) -> np.ndarray:
    """The tensor as the kernels take it, booleans as uint8: its own memory if it is contiguous,
    as what a kernel writes to has to be."""
    array = tensor.contiguous().numpy()
    return array.view(np.uint8) if tensor.dtype == torch.bool else array


def as_uint32(keys_B2: Tensor) -> np.ndarray:
    """Draw keys, uint32."""
    return keys_B2.contiguous().numpy().view(np.uint32)


def kernel(function: Callable) -> Callable:
    """Compile a function with numba, without the interpreter's lock.

    The machine code is kept beside the module, or in the user's cache folder where the package
    cannot be written to. Where neither can (a container without a home) numba refuses to keep
    it at all, with an error; it is then compiled in each process, which costs a few seconds.
    """
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        return njit(nogil=True)(function)
