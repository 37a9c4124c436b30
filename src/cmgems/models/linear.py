"""x W^T + b, by the faster of the two matrix libraries in torch on a CPU.

In float32 torch multiplies with MKL, which does not use the full vectors of processors that are
not Intel's; oneDNN does, and torch takes it for bfloat16 alone. Here oneDNN serves float32 too,
forward and backward: the same products, added in another order.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Registered where torch was built with oneDNN.
_ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear(nn.Linear):
    """`nn.Linear`, faster on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x_ND: Tensor, weight_FD: Tensor, bias_F: Tensor | None = None) -> Tensor:
    """[N, F]: `F.linear` of a matrix, in the type of the matrix."""
    weight_FD = weight_FD.to(x_ND.dtype)
    bias_F = bias_F if bias_F is None else bias_F.to(x_ND.dtype)
    if _by_onednn(x_ND, weight_FD):
        return _OneDnnLinear.apply(x_ND, weight_FD, bias_F)
    return F.linear(x_ND, weight_FD, bias_F)


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
    def forward(ctx, x_ND: Tensor, weight_FD: Tensor, bias_F: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_ND, weight_FD)
        return _product(x_ND, weight_FD, bias_F)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient_NF: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, weight_FD = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        return (
            _product(gradient_NF, weight_FD.t()) if wants_x else None,
            _product(gradient_NF.t(), x_ND.t()) if wants_weight else None,
            gradient_NF.sum(0) if wants_bias else None,
        )


def _product(one: Tensor, other: Tensor, bias: Tensor | None = None) -> Tensor:
    """one @ other.T + bias; strides are the library's business."""
    return torch.ops.mkldnn._linear_pointwise(one, other, bias, "none", [], "")
