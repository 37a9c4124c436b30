"""Muon, as `torch.optim.Muon` computes it, with one product for all matrices of a shape.

Small matrices take most of torch's time between two products (Jordan et al., 2024:
https://kellerjordan.github.io/posts/muon/).

Shapes: N matrices, R <= C the sides of each.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of the quintic iteration (Jordan et al.)
ITERATIONS = 5
EPSILON = 1e-7


class Muon(Optimizer):
    """Nesterov momentum whose matrices are replaced by the nearest orthogonal ones, scaled to the
    size of AdamW's updates (Liu et al., arXiv 2502.16982); weight decay apart from the gradient.

    Parameters
    ----------
    matrices : nn.Parameter [R, C] or [C, R] each
    lr : float
    weight_decay : float
    momentum : float
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
    ):
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step(group)
        return loss

    def _step(self, group: dict[str, Any]) -> None:
        matrices = [matrix for matrix in group["params"] if matrix.grad is not None]
        for matrix in matrices:
            if not self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix.grad)
        if not matrices:
            return
        gradients = [matrix.grad for matrix in matrices]
        momenta = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients, momenta, group["momentum"])
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        alike = defaultdict(list)
        for matrix, update in zip(matrices, updates, strict=True):
            is_tall = matrix.shape[0] > matrix.shape[1]
            wide = (matrix.mT, update.mT) if is_tall else (matrix, update)
            alike[tuple(wide[0].shape), matrix.device].append(wide)
        for (sides, _), pairs in alike.items():
            orthogonal = orthogonalize(torch.stack([update for _, update in pairs]))
            rate = group["lr"] * 0.2 * max(sides) ** 0.5
            steps = orthogonal.to(pairs[0][0].dtype).unbind()
            torch._foreach_add_([matrix for matrix, _ in pairs], steps, alpha=-rate)


def orthogonalize(x_NRC: Tensor) -> Tensor:
    """[N, R, C] in bfloat16: U S V^T of each -> about U V^T, by Newton and Schulz' iteration."""
    first, third, fifth = COEFFICIENTS
    x = x_NRC.bfloat16()
    x = x / torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True).clamp(min=EPSILON)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth)
        x = torch.baddbmm(x, polynomial, x, beta=first)
    return x
