"""Softmax attention in bfloat16 on a CPU: torch's forward pass, and a backward pass of products.

torch's own backward pass takes bfloat16 for small products, and longer than in float32. Here the
weights of some sequences at a time are computed again, few enough to stay in the cache, and what
follows are five products of all their heads.

Shapes: B sequences, H heads, Q queries and K keys of a sequence, E features of a head.
"""

from typing import Any

import torch
from torch import Tensor

# Scores of this many pairs are held at a time, and sequences are not cut.
PAIRS_AT_A_TIME = 1 << 20


def serves(q: Tensor) -> bool:
    """Whether queries [B, H, Q, E] are attended for by `Bf16Attention`."""
    return (
        q.device.type == "cpu"
        and q.dtype == torch.bfloat16
        and q.numel() > 0
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
    )


class Bf16Attention(torch.autograd.Function):
    """`F.scaled_dot_product_attention` without dropout; the mask gets no gradient."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, -torch.inf)
        ctx.save_for_backward(q, k, v, mask)
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, mask)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask = ctx.saved_tensors
        batch, heads, queries, _ = q.shape
        at_a_time = max(1, PAIRS_AT_A_TIME // (heads * queries * k.shape[2]))
        gradients = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for first in range(0, batch, at_a_time):
            some = slice(first, first + at_a_time)
            # A mask that all sequences share has one row.
            part = mask if mask is None or mask.ndim < 4 or len(mask) == 1 else mask[some]
            found = _backward(q[some], k[some], v[some], part, gradient[some])
            for whole, own in zip(gradients, found, strict=True):
                whole[some] = own
        return *gradients, None


def _backward(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v, from that of what is attended to."""
    scale = q.shape[-1] ** -0.5
    k, v, gradient = (x.contiguous() for x in (k, v, gradient))
    q = q.contiguous() * scale
    scores = q @ k.mT
    weights = (scores if mask is None else scores.add_(mask)).softmax(-1)
    of_scores = torch._softmax_backward_data(gradient @ v.mT, weights, -1, weights.dtype)
    return (
        (of_scores @ k).mul_(scale),
        of_scores.mT @ q,
        weights.mT @ gradient,
    )
