"""BERT's feed-forward on a GPU, with GELU and its gradient computed where a product ends.

As operations of their own both are bound by the memory: with F = 12 D they move more than half of
all that the parts of a LOGO step outside of products and attention move. Here the product up writes
GELU's input and output at once; backward, the product that makes the gradient of GELU's output
multiplies it by GELU's slope, and adds up the gradient of the bias, before it is written. The
kernels are in `cmgems.models.gelu_kernels`.

Shapes: T tokens, D width, F feed-forward width.
"""

import warnings
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._triton import has_triton

ALIKE = 0.02  # of the largest number: a few roundings of bfloat16


_UP, _DOWN = "cmgems::up_gelu", "cmgems::down_gelu_backward"
# Plain ones: `torch.library.custom_op` would add Python to each launch.
torch.library.define(_UP, "(Tensor x, Tensor weight, Tensor? bias) -> (Tensor, Tensor)")
torch.library.define(_DOWN, "(Tensor gradient, Tensor weight, Tensor before) -> (Tensor, Tensor)")


def up_gelu(x_TD: Tensor, weight_FD: Tensor, bias_F: Tensor | None) -> tuple[Tensor, Tensor]:
    """[T, F] twice: x W^T + b, and GELU of it."""
    return torch.ops.cmgems.up_gelu(x_TD, weight_FD, bias_F)


def down_gelu_backward(
    gradient_TD: Tensor, weight_DF: Tensor, before_TF: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradient [T, F] of GELU's input, from that of the product down, and its sum over T, [F]
    in float32 or wider."""
    return torch.ops.cmgems.down_gelu_backward(gradient_TD, weight_DF, before_TF)


@torch.library.impl(_UP, "cpu")
def _(x_TD: Tensor, weight_FD: Tensor, bias_F: Tensor | None) -> tuple[Tensor, Tensor]:
    before_TF = F.linear(x_TD, weight_FD, bias_F)
    return before_TF, F.gelu(before_TF)


@torch.library.impl(_DOWN, "cpu")
def _(gradient_TD: Tensor, weight_DF: Tensor, before_TF: Tensor) -> tuple[Tensor, Tensor]:
    gradient_TF = torch.ops.aten.gelu_backward(gradient_TD @ weight_DF, before_TF)
    return gradient_TF, gradient_TF.sum(0, dtype=_of_sums(before_TF))


@torch.library.impl(_UP, "cuda")
def _(x_TD: Tensor, weight_FD: Tensor, bias_F: Tensor | None) -> tuple[Tensor, Tensor]:
    from cmgems.models import gelu_kernels  # Triton comes with torch for GPUs alone

    return gelu_kernels.up_gelu(x_TD, weight_FD, bias_F)


@torch.library.impl(_DOWN, "cuda")
def _(gradient_TD: Tensor, weight_DF: Tensor, before_TF: Tensor) -> tuple[Tensor, Tensor]:
    from cmgems.models import gelu_kernels

    return gelu_kernels.down_gelu_backward(gradient_TD, weight_DF, before_TF)


@torch.library.register_fake(_UP)
def _(x_TD: Tensor, weight_FD: Tensor, bias_F: Tensor | None) -> tuple[Tensor, Tensor]:
    before_TF = x_TD.new_empty(len(x_TD), len(weight_FD))
    return before_TF, torch.empty_like(before_TF)


@torch.library.register_fake(_DOWN)
def _(gradient_TD: Tensor, weight_DF: Tensor, before_TF: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(before_TF), before_TF.new_empty(
        before_TF.shape[1], dtype=_of_sums(before_TF)
    )


def _of_sums(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


class FeedForward(torch.autograd.Function):
    """GELU(x U^T + b) V^T + c: x [T, D], U [F, D], b [F] or None, V [D, F], c [D] or None."""

    @staticmethod
    def forward(
        ctx: Any,
        x_TD: Tensor,
        up_FD: Tensor,
        up_F: Tensor | None,
        down_DF: Tensor,
        down_D: Tensor | None,
    ) -> Tensor:
        before_TF, after_TF = up_gelu(x_TD, up_FD, up_F)
        ctx.save_for_backward(x_TD, up_FD, down_DF, before_TF, after_TF)
        return F.linear(after_TF, down_DF, down_D)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient_TD: Tensor) -> tuple[Tensor | None, ...]:
        x_TD, up_FD, down_DF, before_TF, after_TF = ctx.saved_tensors
        gradient_TF, sum_F = down_gelu_backward(gradient_TD, down_DF, before_TF)
        has_biases = ctx.needs_input_grad[2], ctx.needs_input_grad[4]
        return (
            gradient_TF @ up_FD,
            gradient_TF.t() @ x_TD,
            sum_F.to(x_TD.dtype) if has_biases[0] else None,
            gradient_TD.t() @ after_TF,
            gradient_TD.sum(0) if has_biases[1] else None,
        )


def serves(x: Tensor) -> bool:
    """Whether a feed-forward of x is computed by `FeedForward`."""
    return x.is_cuda and x.dtype in (torch.bfloat16, torch.float16) and x.ndim == 2 and _works()


@torch.compiler.assume_constant_result
def _works() -> bool:
    return _kernels_work(torch.cuda.current_device())


@lru_cache
def _kernels_work(device: int) -> bool:
    """Whether the kernels compile and compute the formula on a GPU; a warning says why not."""
    if not has_triton() or torch.cuda.get_device_capability(device) < (8, 0):
        return False
    try:
        error = _largest_error(torch.device("cuda", device))
    except Exception as reason:  # the formula serves too, whatever a compiler or driver lacks
        warnings.warn(f"GELU is not fused: {type(reason).__name__}: {reason}", stacklevel=2)
        return False
    if not error < ALIKE:
        warnings.warn(f"GELU is not fused: its kernels are {error:.3g} off here", stacklevel=2)
        return False
    return True


@torch.no_grad()
def _largest_error(device: torch.device) -> float:
    """Of what the kernels compute, relative to the largest number: no tile is full."""
    rows, width, inner = 200, 96, 144
    count = torch.arange((rows + inner) * width + inner, dtype=torch.float64, device=device)
    numbers = (count**1.5).sin().bfloat16()  # none like its neighbors, and no generator is touched
    x, weight, bias = numbers.split((rows * width, inner * width, inner))
    x_TD, up_FD = x.view(rows, width), weight.view(inner, width) / 8  # so that GELU is curved
    products = up_gelu(x_TD, up_FD, bias)
    gradients = down_gelu_backward(x_TD, up_FD.t().contiguous(), products[0])
    before_TF = F.linear(x_TD, up_FD, bias)
    gradient_TF = torch.ops.aten.gelu_backward(x_TD @ up_FD.t(), before_TF)
    wanted = before_TF, F.gelu(before_TF), gradient_TF, gradient_TF.sum(0, dtype=torch.float32)
    return max(
        float((one - other).abs().max() / other.abs().max())
        for one, other in zip((*products, *gradients), wanted, strict=True)
    )
