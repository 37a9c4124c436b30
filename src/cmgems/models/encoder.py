"""The whole encoder in one file: a BERT (post-LayerNorm, learned positions, GELU) on packed tokens.

Sequences are packed, not padded: the tokens of all sequences of a batch lie one behind the other,
and only attention looks at where one ends and the next begins. The last layer computes queries,
output projection and feed-forward for the predicted positions alone: the loss reads nothing else,
so this is exact, and it saves most of a shallow encoder's last layer.

Shapes: B sequences, T tokens of the batch (packed), M predicted positions, D width, H heads,
E = D / H, F feed-forward width, V vocabulary, S the longest sequence.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmgems.models.attention import Layout, attention
from cmgems.models.linear import Linear, linear

ALIGNED = 64  # classes of the output product are a multiple of this on a GPU


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of an encoder; `max_position_embeddings` counts [CLS] and [SEP]."""

    num_layers: int
    hidden_size: int
    num_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int = 512
    dropout: float = 0.0


class Encoder(nn.Module):
    """Token ids in, contextual states out."""

    def __init__(self, shape: EncoderConfig):
        super().__init__()
        self.config = shape
        # Arithmetic behind the embeddings; None: that of the weights. The weights stay what they
        # are and are rounded where they are used, so their updates and gradients add up in float32.
        self.compute: torch.dtype | None = None
        self.tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.positions = nn.Embedding(shape.max_position_embeddings, shape.hidden_size)
        self.norm = LayerNorm(shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_layers))
        initialise_bert(self)

    def forward(self, ids_T: Tensor, layout: Layout, at_M: Tensor | None = None) -> Tensor:
        """States [M, D] at the packed places `at_M` (int64), or [T, D] at all of them."""
        x_TD = self.tokens(ids_T) + self.positions(layout.positions_T)
        x_TD = F.dropout(self.norm(x_TD), self.config.dropout, self.training)
        x_TD = x_TD.to(self.compute or x_TD.dtype)
        for layer in self.layers[:-1]:
            x_TD = layer(x_TD, layout)
        return self.layers[-1](x_TD, layout, at_M)


class Layer(nn.Module):
    """Attention and feed-forward, each followed by residual sum and LayerNorm."""

    def __init__(self, shape: EncoderConfig):
        super().__init__()
        self.heads = shape.num_heads
        self.dropout = shape.dropout
        self.query = Linear(shape.hidden_size, shape.hidden_size)
        self.key_value = Linear(shape.hidden_size, 2 * shape.hidden_size)
        self.output = Linear(shape.hidden_size, shape.hidden_size)
        self.attention_norm = LayerNorm(shape.hidden_size)
        self.up = Linear(shape.hidden_size, shape.intermediate_size)
        self.down = Linear(shape.intermediate_size, shape.hidden_size)
        self.norm = LayerNorm(shape.hidden_size)

    def forward(self, x_TD: Tensor, layout: Layout, at_M: Tensor | None = None) -> Tensor:
        residual = x_TD if at_M is None else x_TD[at_M]
        dropout = self.dropout if self.training else 0.0
        mixed = attention(
            self.query(residual), self.key_value(x_TD), layout, at_M, self.heads, dropout
        )
        x = self.attention_norm(residual + F.dropout(self.output(mixed), dropout, self.training))
        hidden = F.dropout(self.down(F.gelu(self.up(x))), dropout, self.training)
        return self.norm(x + hidden)


class MaskedLanguageModel(nn.Module):
    """Encoder and BERT's prediction head, whose output weights are the token embeddings."""

    def __init__(self, shape: EncoderConfig):
        super().__init__()
        self.encoder = Encoder(shape)
        self.transform = Linear(shape.hidden_size, shape.hidden_size)
        self.norm = LayerNorm(shape.hidden_size)
        self.bias = nn.Parameter(torch.zeros(shape.vocab_size))
        initialise_bert(self)

    def forward(self, ids_T: Tensor, layout: Layout, at_M: Tensor) -> Tensor:
        """Logits [M, V] at the packed places `at_M`."""
        x_MD = self.encoder(ids_T, layout, at_M)
        x_MD = self.norm(F.gelu(self.transform(x_MD)))
        return logits(x_MD, self.encoder.tokens.weight, self.bias)


def logits(x_MD: Tensor, weight_VD: Tensor, bias_V: Tensor) -> Tensor:
    """[M, V]: x W^T + b."""
    half = x_MD.dtype in (torch.bfloat16, torch.float16)
    product = aligned_linear if x_MD.is_cuda and half else linear
    return product(x_MD, weight_VD, bias_V)


def aligned_linear(x_MD: Tensor, weight_VD: Tensor, bias_V: Tensor) -> Tensor:
    """`linear` with V filled up to a multiple of 64 within the product: rows of odd length (4101)
    are not aligned. The extra classes are cut off again."""
    classes = len(weight_VD)
    extra = -classes % ALIGNED
    padded = F.pad(weight_VD, (0, 0, 0, extra)), F.pad(bias_V, (0, extra))
    return linear(x_MD, *padded)[:, :classes]


class LayerNorm(nn.LayerNorm):
    """BERT's epsilon; computed in the type of what comes in."""

    def __init__(self, width: int):
        super().__init__(width, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


def initialise_bert(module: nn.Module) -> None:
    """BERT's initialisation: weights normal with deviation 0.02, biases 0, LayerNorm 1 and 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=0.02)
        if isinstance(part, nn.Linear):
            nn.init.zeros_(part.bias)
