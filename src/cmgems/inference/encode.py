"""What an encoder makes of tokens: its states, and in which arithmetic."""

import torch
from torch import Tensor

from cmgems.models.stacked import Dropout, StackedEncoder
from cmgems.tasks.tokens import Tokens


def states_of(body: StackedEncoder, tokens: Tokens, layers: int | None = None) -> Tensor:
    """States [G, B, L, D] of a batch behind so many layers (0: the embeddings; None: all).

    At padding stands anything.
    """
    device = body.tokens.weight.device
    models, real = len(body.tokens.weight), tokens.attention_mask()
    ids = tokens.ids_NL.to(device).expand(models, -1, -1)
    padding = None if bool(real.all()) else real.to(device)
    return body(ids, padding, Dropout(0.0, [0] * models), layers=layers)


def arithmetic(device: torch.device, bf16: bool) -> torch.autocast:
    """Matrix products in bfloat16, sums and weights in float32; or everything in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)
