"""Parts of an encoder: embeddings, LayerNorm, feed-forwards, and the convolution in front.

Their weights may have a model axis in front (`cmgems.models.stacked`): x is then [G, T, D].

Shapes: G models, T tokens, D width, F feed-forward width, V rows of a table, W kernel width.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmgems.models import fused_gelu
from cmgems.models.linear import Linear
from cmgems.tokenization.base import MASK

TOKEN_DROPOUT = 0.15 * 0.8  # the share of [MASK] in ESM's pretraining


class Embedding(nn.Embedding):
    """A vector per id."""

    def forward(self, ids: Tensor) -> Tensor:
        """[..., T] -> [..., T, D]; with a model axis ids are [G, T], or [T] for all models."""
        if self.weight.ndim == 2:
            return super().forward(ids)
        models, rows = self.weight.shape[:2]
        first_row = torch.arange(models, device=ids.device)[:, None] * rows
        return F.embedding(ids + first_row, self.weight.flatten(0, 1))


def drop_masked(x: Tensor, ids: Tensor, position_ids: Tensor) -> Tensor:
    """ESM's token dropout: [MASK] has no embedding, and those of its sequence are scaled, by the
    share of its tokens that still have one, to what they were with the share of pretraining.

    x [..., T, D] are the embeddings of `ids` [..., T]; a sequence begins at each position 0.
    Source: Lin et al., Science 2023 (ESM-2), and `EsmEmbeddings` of transformers.
    """
    is_mask = ids == MASK
    dropped = is_mask.to(torch.promote_types(x.dtype, torch.float32))
    sequence = (position_ids == 0).cumsum(-1).expand_as(ids) - 1
    masked, tokens = (
        torch.zeros_like(dropped).scatter_add(-1, sequence, count).gather(-1, sequence)
        for count in (dropped, torch.ones_like(dropped))
    )
    scale = (1 - TOKEN_DROPOUT) / (1 - masked / tokens)
    return x * scale.masked_fill(is_mask, 0.0).to(x.dtype)[..., None]


class LayerNorm(nn.LayerNorm):
    """Computed in the type of what comes in."""

    def __init__(self, width: int, bias: bool = True, eps: float = 1e-12):
        super().__init__(width, eps=eps, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if weight.ndim == 1:
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)
        if len(weight) == 1:
            bias = None if bias is None else bias[0]
            return F.layer_norm(x, self.normalized_shape, weight[0], bias, self.eps)
        plain, weight = F.layer_norm(x, self.normalized_shape, eps=self.eps), weight[:, None]
        return plain * weight if bias is None else torch.addcmul(bias[:, None], plain, weight)


class Gelu(nn.Module):
    """BERT's feed-forward: down(GELU(up x)).

    Parameters
    ----------
    hidden_size, intermediate_size : int
        D and F.
    biases : (bool, bool)
        Of `up` and of `down`.
    """

    matrices: ClassVar[int] = 2  # of D x F weights
    kept: ClassVar[int] = 2  # numbers per token and feature of F that the backward pass reads

    def __init__(self, hidden_size: int, intermediate_size: int, biases: tuple[bool, bool]):
        super().__init__()
        self.up = Linear(hidden_size, (self.matrices - 1) * intermediate_size, biases[0])
        self.down = Linear(intermediate_size, hidden_size, biases[1])
        self.gelu = "none"  # or "tanh", as torch's `approximate`

    def forward(self, x: Tensor) -> Tensor:
        if self.gelu == "none" and fused_gelu.serves(x):
            return self._fused(x)
        return self.down(F.gelu(self.up(x), approximate=self.gelu))

    def _fused(self, x: Tensor) -> Tensor:
        weights = self.up.weight, self.up.bias, self.down.weight, self.down.bias
        rounded = (None if weight is None else weight.to(x.dtype) for weight in weights)
        return fused_gelu.FeedForward.apply(x, *rounded)


class Geglu(Gelu):
    """Gated (Shazeer, 2020): down(GELU(a) * b), a and b the halves of up x, each of F features."""

    matrices: ClassVar[int] = 3
    kept: ClassVar[int] = 4

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(x).chunk(2, -1)
        return self.down(F.gelu(gate, approximate=self.gelu) * value)


class Swiglu(Geglu):
    """Gated by SiLU, x times its sigmoid: down(SiLU(a) * b) (Shazeer, 2020)."""

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(x).chunk(2, -1)
        return self.down(F.silu(gate) * value)


MLPS: dict[str, type[Gelu]] = {"gelu": Gelu, "geglu": Geglu, "swiglu": Swiglu}


class ConvolutionStem(nn.Module):
    """x + GELU(convolution of x over W tokens), within each sequence.

    Parameters
    ----------
    hidden_size : int
    kernel : int
        W, odd.
    biases : bool
    """

    def __init__(self, hidden_size: int, kernel: int, biases: bool):
        super().__init__()
        self.reach = kernel // 2
        self.convolution = Linear(kernel * hidden_size, hidden_size, biases)

    def forward(self, x: Tensor, position_ids: Tensor, dtype: torch.dtype) -> Tensor:
        """x [T, D] of the tokens at `position_ids` [T] of their sequences; product in `dtype`."""
        low, neighbors = x.to(dtype), []
        for offset in range(-self.reach, self.reach + 1):
            # A token of another sequence, or of padding, never has the position that follows.
            same = position_ids.roll(-offset, -1) == position_ids + offset
            neighbors.append(low.roll(-offset, -2) * same[..., None])
        return x + F.gelu(self.convolution(torch.cat(neighbors, -1))).to(x.dtype)
