"""Low-rank adapters (LoRA, Hu et al., ICLR 2022) for G models side by side.

y = W x + (alpha / r) B A x, W fixed, A [G, r, I] normal, B [G, O, r] zero at the start. It is
written out because each linear map has a model axis, which libraries for one model's `nn.Linear`s
do not know. The tests hold it equal to a plain `Encoder` with the weights W + (alpha / r) B A.
"""

import torch
from torch import Tensor, nn

from cmgems.errors import UserError
from cmgems.models.encoder import Encoder
from cmgems.models.linear import Linear
from cmgems.models.mixers import SelfAttention
from cmgems.utils.rng import seed_torch

ALPHA = 16.0
ADAPTED = ("query", "key_value")  # of each layer's attention


class LowRank(nn.Module):
    """A fixed linear map and a low-rank update of it, for each of G models."""

    def __init__(self, base: Linear, rank: int) -> None:
        super().__init__()
        models, outputs, inputs = base.weight.shape
        self.base = base.requires_grad_(False)
        self.scale = ALPHA / rank
        self.down = nn.Parameter(base.weight.new_zeros(models, rank, inputs))
        self.up = nn.Parameter(base.weight.new_zeros(models, outputs, rank))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(len(x), -1, x.shape[-1])
        update = torch.bmm(torch.bmm(flat, self.down.mT), self.up.mT) * self.scale
        return self.base(x) + update.view(*x.shape[:-1], -1)

    def merge_into_base(self) -> Linear:
        """The base, with the update added to its weights."""
        with torch.no_grad():
            self.base.weight += self.scale * torch.bmm(self.up, self.down)
        return self.base


def adapt(encoder: Encoder, rank: int, seeds: list[int]) -> None:
    """Fix all weights of the encoders and put adapters on the attention's queries, keys, values.

    Raises
    ------
    UserError
        If no layer has attention.
    """
    encoder.requires_grad_(False)
    layers = _attention_of(encoder)
    if not layers:
        raise UserError(
            "protocol.finetune: found lora, which adapts attention, and a model of convolutions "
            "alone; wanted full or frozen"
        )
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for attention in layers:
            for name in ADAPTED:
                setattr(attention, name, LowRank(getattr(attention, name), rank))
        for model, seed in enumerate(seeds):
            seed_torch(seed, "adapters")
            for attention in layers:
                for name in ADAPTED:
                    down = getattr(attention, name).down
                    nn.init.normal_(down[model], std=down.shape[-1] ** -0.5)


def merge(encoder: Encoder) -> None:
    """Add the adapters to the weights; the encoders compute what they did before."""
    for attention in _attention_of(encoder):
        for name in ADAPTED:
            part = getattr(attention, name)
            if isinstance(part, LowRank):
                setattr(attention, name, part.merge_into_base())


def _attention_of(encoder: Encoder) -> list[SelfAttention]:
    """Of the layers that have it."""
    return [layer.mixer for layer in encoder.layers if isinstance(layer.mixer, SelfAttention)]
