"""x W^T + b, by the faster of the two matrix libraries in torch on a CPU.

In float32 torch multiplies with MKL, which does not use the full vectors of processors that are
not Intel's; oneDNN does, and torch takes it for bfloat16 alone. Here oneDNN serves float32 too,
forward and backward: the same products, added in another order. Where the processor is Intel's,
MKL is the faster one for the gradients of weights.

Weights with a model axis in front (`cmgems.models.stacked`) map the inputs of each of G models.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Registered where torch was built with oneDNN.
_ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise")
_CPU_INFO = Path("/proc/cpuinfo")  # of Linux; elsewhere oneDNN computes all
_INTEL = _CPU_INFO.exists() and "GenuineIntel" in _CPU_INFO.read_text(errors="replace")


class Linear(nn.Linear):
    """`nn.Linear`, faster on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`, in the type of x: x [N, D], weight [F, D], bias [F] -> [N, F].

    With a model axis: x [G, ..., D], weight [G, F, D], bias [G, F] -> [G, ..., F].
    """
    if weight.ndim == 3:
        return _linear_of_models(x, weight, bias)
    weight = weight.to(x.dtype)
    bias = bias if bias is None else bias.to(x.dtype)
    if _by_onednn(x, weight):
        return _OneDnnLinear.apply(x, weight, bias)
    return F.linear(x, weight, bias)


def _linear_of_models(x: Tensor, weight_GFD: Tensor, bias_GF: Tensor | None) -> Tensor:
    flat = x.reshape(len(x), -1, x.shape[-1])
    if len(flat) == 1:  # the same, by faster kernels: for small batches torch's, else oneDNN's
        product = F.linear if torch.is_grad_enabled() else linear
        out = product(flat[0], weight_GFD[0], None if bias_GF is None else bias_GF[0])
        return out.view(*x.shape[:-1], -1)
    out = torch.bmm(flat, weight_GFD.mT)
    if bias_GF is not None:
        out = out + bias_GF[:, None].to(out.dtype)
    return out.view(*x.shape[:-1], -1)


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        _ONEDNN
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.ndim == 2
        and x.shape[0] > 0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


class _OneDnnLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_FD: Tensor, bias_F: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_ND, weight_FD)
        return _product(x_ND, weight_FD, bias_F)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient_NF: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, weight_FD = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        return (
            _product(gradient_NF, weight_FD.t()) if wants_x else None,
            _weight_gradient(gradient_NF, x_ND) if wants_weight else None,
            gradient_NF.new_ones(len(gradient_NF)) @ gradient_NF if wants_bias else None,
        )


def _weight_gradient(gradient_NF: Tensor, x_ND: Tensor) -> Tensor:
    """[F, D]: oneDNN copies both factors first, as their columns are multiplied."""
    if _INTEL:
        return gradient_NF.t() @ x_ND
    return _product(gradient_NF.t(), x_ND.t())


def _product(one: Tensor, other: Tensor, bias: Tensor | None = None) -> Tensor:
    """one @ other.T + bias; strides are the library's business."""
    return torch.ops.mkldnn._linear_pointwise(one, other, bias, "none", [], "")
