"""The optimizer of pretraining and its schedule."""

import torch
from torch import nn

from cmgems.config.schema import Optim


def linear_warmup_decay(step: int, warmup_steps: int, max_steps: int) -> float:
    """Linear warm-up to 1 over `warmup_steps` steps, then linear decay to 0 at `max_steps`."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return max(0.0, (max_steps - step) / max(1, max_steps - warmup_steps))


def adamw(model: nn.Module, optim: Optim) -> torch.optim.AdamW:
    """AdamW that decays weight matrices, not biases and LayerNorms."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": optim.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=optim.learning_rate, betas=(optim.beta1, optim.beta2), eps=optim.eps, fused=True
    )
