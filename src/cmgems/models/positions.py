"""Where tokens stand in their sequence: three ways to tell the encoder.

learned  a vector for each position is added to the embedding (BERT)
rotary   queries and keys are turned by angles that grow with the position, so that a score depends
         on the distance of query and key (Su et al., 2021; halves as in GPT-NeoX, ESM, ModernBERT)
alibi    a score falls linearly with that distance, steeply in some heads, gently in others
         (Press et al., ICLR 2022; on both sides alike, as in DNABERT-2)

Each has `embed`, for the embeddings, and `for_attention`, for layers.

Shapes: T tokens, M positions with a query, N = T or M, D width, H heads, E = D / H; x, queries and
keys may have a model axis in front.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cmgems.models.blocks import Embedding

ROTARY_BASE = 10_000.0  # usual: the slowest angle turns once in 2 pi times so many tokens


class AttentionPositions(NamedTuple):
    """What attention knows of positions; the same in all layers with one base of the angles."""

    cos: Tensor | None = None  # [T, 1, E], of each feature's angle
    sin: Tensor | None = None  # with a minus for the first feature of each pair
    slopes_H: Tensor | None = None  # what a score loses per token of distance

    def rotate(
        self, query: Tensor, key_value: Tensor, at_M: Tensor | None, heads: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """query [N, D] and key_value [T, 2 D]: the query and the key turned, and the value."""
        if self.cos is None or self.sin is None:
            key, value = key_value.chunk(2, -1)
            return query, key, value
        cos, sin = self.cos, self.sin
        key, value = _Turn.apply(key_value, cos, sin, heads)
        if at_M is not None:
            cos, sin = cos[..., at_M, :, :], sin[..., at_M, :, :]
        return _Turn.apply(query, cos, sin, heads)[0], key, value


class Learned(Embedding):
    """A vector per position, [S, D]."""

    def __init__(self, max_positions: int, hidden_size: int, num_heads: int):
        super().__init__(max_positions, hidden_size)

    def embed(self, x: Tensor, position_ids: Tensor) -> Tensor:
        """x with positions."""
        return x + self(position_ids)

    def for_attention(
        self, position_ids: Tensor, dtype: torch.dtype, base: float = ROTARY_BASE
    ) -> AttentionPositions:
        return AttentionPositions()


class Rotary(nn.Module):
    """Angles per position; no weights."""

    def __init__(self, max_positions: int, hidden_size: int, num_heads: int):
        super().__init__()
        self.head_size = hidden_size // num_heads

    def embed(self, x: Tensor, position_ids: Tensor) -> Tensor:
        return x

    def for_attention(
        self, position_ids: Tensor, dtype: torch.dtype, base: float = ROTARY_BASE
    ) -> AttentionPositions:
        # Angles of far positions need float32: bfloat16 tells apart 256 positions.
        exact = torch.promote_types(dtype, torch.float32)
        frequencies = rotary_frequencies(self.head_size, base, position_ids.device, exact)
        angle = position_ids[..., None, None] * frequencies
        cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)
        return AttentionPositions(torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1))


class Alibi(nn.Module):
    """Slopes per head, a geometric series; no weights."""

    def __init__(self, max_positions: int, hidden_size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads

    def embed(self, x: Tensor, position_ids: Tensor) -> Tensor:
        return x

    def for_attention(
        self, position_ids: Tensor, dtype: torch.dtype, base: float = ROTARY_BASE
    ) -> AttentionPositions:
        return AttentionPositions(slopes_H=alibi_slopes(self.num_heads, position_ids.device))


POSITIONS: dict[str, type[Learned] | type[Rotary] | type[Alibi]] = {
    "learned": Learned,
    "rotary": Rotary,
    "alibi": Alibi,
}


def rotary_frequencies(
    head_size: int,
    base: float = ROTARY_BASE,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """[E / 2]: radians per token of each pair of features."""
    pair = torch.arange(0, head_size, 2, device=device, dtype=dtype)
    return base ** (-pair / head_size)


def alibi_slopes(heads: int, device: torch.device | str = "cpu") -> Tensor:
    """[H]: 2^(-8 h / H) for h = 1 to H; of a number that is no power of 2, those of the power
    below and every second one of the power above (as the authors' code)."""
    below = 1 << (heads.bit_length() - 1)
    of_power = torch.arange(1, below + 1, device=device) * (-8 / below)
    between = (2 * torch.arange(heads - below, device=device) + 1) * (-8 / (2 * below))
    return torch.cat([of_power, between]).exp2()


class _Turn(torch.autograd.Function):
    """x [N, D or 2 D]: its first D features turned, and the others as they are.

    Few passes over the states, and one gradient for both parts: torch's own would fill and add up
    one for each.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(cos, sin)
        ctx.heads = heads
        width = heads * cos.shape[-1]
        return _turn(x[..., :width].unflatten(-1, (heads, -1)), cos, sin).flatten(-2), x[
            ..., width:
        ]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, turned: Tensor, rest: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        back = _turn(turned.unflatten(-1, (ctx.heads, -1)), cos, -sin).flatten(-2)
        gradient = torch.cat([back, rest], -1) if rest.shape[-1] else back
        return gradient, None, None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [N, H, E]: in each head, feature e and e + E / 2 are a point in a plane."""
    first, second = x.chunk(2, -1)
    return torch.cat([second, first], -1).mul_(sin).addcmul_(x, cos)
