"""G encoders of one config, side by side: every parameter has a model axis in front.

A few-shot sweep is hundreds of trainings of a few hundred steps each, on batches so small that a
GPU idles between two operations. Replicates and seeds of one task share everything but their
numbers, so they are one computation with another axis: a matrix product becomes a batched one.
What one of the models computes does not depend on the others (dropout included, see
`cmgems.models.dropout.SeededDropout`).

The forward pass is the encoder's own; its blocks take weights with a model axis.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cmgems.models.encoder import Encoder
from cmgems.models.linear import Linear


class StackedLinear(Linear):
    """A linear map for each of G models, of zeros."""

    def __init__(self, models: int, inputs: int, outputs: int):
        nn.Module.__init__(self)
        self.in_features, self.out_features = inputs, outputs
        self.weight = nn.Parameter(torch.zeros(models, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(models, outputs))


def stack(encoders: Sequence[Encoder]) -> Encoder:
    """One encoder that holds all of these; their weights are copied, one may be there twice."""
    stacked = copy.deepcopy(encoders[0])
    weights = [dict(encoder.named_parameters()) for encoder in encoders]
    for name in weights[0]:
        owner, _, leaf = name.rpartition(".")
        together = torch.stack([own[name].detach() for own in weights])
        setattr(stacked.get_submodule(owner), leaf, nn.Parameter(together))
    return stacked


def unstack(stacked: Encoder, model: int) -> Encoder:
    """One of the models, as an encoder of its own."""
    encoder = Encoder(stacked.config).to(stacked.tokens.weight)
    weights: dict[str, Tensor] = stacked.state_dict()
    encoder.load_state_dict({name: x[model] for name, x in weights.items()})
    return encoder.eval()
