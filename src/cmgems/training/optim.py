"""The optimizers of pretraining, and the schedule of their learning rate.

adamw  AdamW for every weight (Loshchilov and Hutter, ICLR 2019).
muon   Muon for the weight matrices of the layers (Jordan et al., 2024): the momentum of a matrix is
       replaced by the nearest orthogonal one, so that all its directions move alike. AdamW for the
       rest: embeddings, biases, LayerNorms. Muon's updates are scaled to the size of AdamW's (Liu
       et al., arXiv 2502.16982), and its memory is half of AdamW's.
"""

from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from cmgems.config.schema import Optim
from cmgems.training.muon import Muon


def linear_warmup_decay(step: int, warmup_steps: int, max_steps: int) -> float:
    """Linear warm-up to 1 over `warmup_steps` steps, then linear decay to 0 at `max_steps`."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return max(0.0, (max_steps - step) / max(1, max_steps - warmup_steps))


def warmup_stable_decay(step: int, warmup_steps: int, decay_steps: int, max_steps: int) -> float:
    """Linear warm-up to 1 over `warmup_steps` steps, constant until `decay_steps` before
    `max_steps`, then linear decay to 0 (WSD: Hu et al., arXiv 2404.06395). With 0 `decay_steps` it
    stays constant.

    Until the decay begins it does not depend on `max_steps`: a run can be branched from any step of
    it (`cmgems branch`).
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if not decay_steps:
        return 1.0
    return min(1.0, max(0.0, (max_steps - step) / decay_steps))


def rate_factor(optim: Optim, step: int, max_steps: int) -> float:
    """The learning rate at a step as a fraction of its peak, by the schedule of the experiment."""
    warmup_steps = optim.warmup(max_steps)
    if optim.schedule == "wsd":
        return warmup_stable_decay(step, warmup_steps, optim.decay_steps, max_steps)
    return linear_warmup_decay(step, warmup_steps, max_steps)


def build_optimizer(model: nn.Module, optim: Optim) -> Optimizer:
    """The optimizer that an experiment names."""
    if optim.name == "adamw":
        return adamw(list(model.parameters()), optim)
    matrices, others = split_parameters(model)
    muon = Muon(matrices, lr=optim.muon_learning_rate, weight_decay=optim.weight_decay)
    return Together(muon, adamw(others, optim))


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The weight matrices of the linear maps, which Muon takes, and all other parameters."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            is_matrix = isinstance(module, nn.Linear) and parameter.ndim == 2
            (matrices if is_matrix else others).append(parameter)
    return matrices, others


def adamw(parameters: list[nn.Parameter], optim: Optim) -> AdamW:
    """AdamW that decays weight matrices, not biases and LayerNorms."""
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": optim.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return AdamW(
        groups, lr=optim.learning_rate, betas=(optim.beta1, optim.beta2), eps=optim.eps, fused=True
    )


class Together(Optimizer):
    """Several optimizers that step as one: Lightning steps a single one by itself.

    Parameters
    ----------
    optimizers : Optimizer
        Of parameters of their own each.
    """

    def __init__(self, *optimizers: Optimizer):
        self.optimizers = optimizers
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        super().__init__(groups, {})
        self._share_groups()

    def _share_groups(self) -> None:
        """A schedule that sets a rate in our groups sets it in theirs."""
        self.param_groups = list(chain(*(each.param_groups for each in self.optimizers)))

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """That of each, in order."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        parts = state_dict["optimizers"]
        for optimizer, state in zip(self.optimizers, parts, strict=True):
            optimizer.load_state_dict(state)
        self._share_groups()
