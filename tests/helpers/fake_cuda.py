"""Tensors on a CUDA GPU that have shapes and no values: what a GPU would run, traced without one.

Whatever looks at a value raises an error, as does what copies a tensor to the host. The forward
pass alone can be traced on a build of torch without CUDA: its autograd engine looks for the streams
of a real device. (`tests/masking/test_fixed_shapes.py` has the backward pass, on `meta` tensors.)
"""

import ctypes
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchmetrics import Metric

from cmgems.curriculum.schedule import start_params
from cmgems.data_modules.windows import WindowBatch
from cmgems.masking.masker import Masker
from cmgems.masking.rates import CenterRates
from cmgems.tokenization import build_tokenization
from cmgems.training.module import Pretraining, max_window_tokens

CUDA = torch.device("cuda", 0)
REGISTRY = "_ZN3c104impl26device_guard_impl_registryE"  # torch's guards by type of device
# One for the whole process: tables that are made once stay on the device.
MODE = FakeTensorMode(allow_non_fake_inputs=True)


def unavailable():
    """Why there can be no such tensors here, or None."""
    try:
        if not torch.backends.cuda.is_built():
            # No code for a GPU is called, but each call is guarded: by the guard for CPUs.
            library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib/libc10.so"))
            guards = (ctypes.c_void_p * 2).in_dll(library, REGISTRY)
            guards[1] = guards[1] or guards[0]
        with MODE:
            assert torch.zeros(2, 2).to(CUDA)[:1].sum().device == CUDA
    except (OSError, ValueError, RuntimeError) as error:
        return f"no fake CUDA tensors in torch {torch.__version__}: {error}"
    return None


class StaysThere(TorchDispatchMode):
    """Refuses what copies a tensor from the GPU to the host."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if any(_is_on(tensor, "cuda") for tensor in tree_leaves((args, kwargs))):
            assert not any(_is_on(tensor, "cpu") for tensor in tree_leaves(result)), operation
        return result


def _is_on(tensor, kind):
    return isinstance(tensor, torch.Tensor) and tensor.device.type == kind


@contextmanager
def on_a_gpu(compiled=False):
    """Everything within is traced for an H100. What copies to the host is found in code that is not
    compiled, what needs a value on the host in all code."""
    watch = nullcontext() if compiled else StaysThere()  # torch.compile traces under no other mode
    capability = mock.patch("torch.cuda.get_device_capability", return_value=(9, 0))
    kernels = mock.patch("cmgems.models.fused_gelu._works", _triton_is_there)
    with capability, kernels, MODE, watch:
        yield


def _triton_is_there():
    """No mock: torch.compile has to read it."""
    return True


def module_on_gpu(experiment):
    """A `Pretraining` on the GPU, with masks at the paper's rates (none have to be solved)."""
    tokenization = build_tokenization(experiment.data)
    with MODE:
        columns = max_window_tokens(experiment, tokenization) - 2
        rank_V = torch.zeros(max(tokenization.vocab_size - 5, 4), dtype=torch.int32)
        corpus_BK = torch.zeros(2, columns, dtype=torch.int32)
        rates = CenterRates(corpus_BK, rank_V, tokenization, paper=True)
        masker = Masker(tokenization, rank_V, rates, params=start_params(experiment.masking))
        with mock.patch("cmgems.training.module.max_token_fraction", return_value=0.2):
            module = Pretraining(experiment, masker)
        move(module)
    return module


def move(module):
    """To the GPU. `Module.to` would swap the tensors within their parameters, which fake ones do
    not allow."""
    for part in module.modules():
        _move_own(part)


def _move_own(part):
    if isinstance(part, Metric):
        part._apply(lambda tensor: tensor.to(CUDA))
        return
    for name, weights in part._parameters.items():
        if weights is not None:
            part._parameters[name] = torch.nn.Parameter(weights.detach().to(CUDA))
    for name, buffer in part._buffers.items():
        if buffer is not None:
            part._buffers[name] = buffer.to(CUDA)


def batch_on_gpu(experiment, bases):
    """Windows of so many bases each, as the loader ships them."""
    tokenization = build_tokenization(experiment.data)
    count = len(bases)
    with MODE:
        batch = WindowBatch(
            torch.zeros(count, experiment.data.window_length, dtype=torch.uint8),
            tuple(bases),
            torch.zeros(count, 2, dtype=torch.int32),
            torch.zeros(count, dtype=torch.int64),
        )
        if tokenization.on_host:
            tokens = tuple(tokenization.max_tokens(length) - 2 for length in bases)
            columns = max_window_tokens(experiment, tokenization) - 2
            tokens = tuple(min(number, columns) for number in tokens)
            batch = batch._replace(
                ids_BK=torch.zeros(count, columns, dtype=torch.int32),
                tokens=tokens,
                tokens_B=torch.zeros(count, dtype=torch.int64),
            )
        return batch._replace(
            **{
                name: tensor.to(CUDA)
                for name, tensor in batch._asdict().items()
                if isinstance(tensor, torch.Tensor)
            }
        )
