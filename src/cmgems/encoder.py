"""The whole encoder in one file: a BERT (post-LayerNorm, learned positions, GELU) on packed tokens.

Sequences are packed, not padded: the tokens of all sequences of a batch lie one behind the other,
and only attention looks at where one ends and the next begins. The last layer computes queries,
output projection and feed-forward for the predicted positions alone: the loss reads nothing else,
so this is exact, and it saves most of a shallow encoder's last layer.

Shapes: B sequences, T tokens of the batch (packed), M predicted positions, D width, H heads,
E = D / H, F feed-forward width, V vocabulary, S the longest sequence.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of an encoder; `positions` counts [CLS] and [SEP]."""

    layers: int
    width: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int = 512
    dropout: float = 0.0


class Layout(NamedTuple):
    """Where each packed token belongs.

    `lengths` stays on the host, so that splitting the batch needs no device synchronisation.
    """

    lengths: tuple[int, ...]  # tokens of each of the B sequences, [CLS] and [SEP] included
    positions_T: Tensor  # int64, place of each token in its sequence

    @classmethod
    def of(cls, lengths: tuple[int, ...], device: torch.device | str = "cpu") -> "Layout":
        return cls(lengths, torch.cat([torch.arange(n, device=device) for n in lengths]))


class Encoder(nn.Module):
    """Token ids in, contextual states out."""

    def __init__(self, shape: EncoderShape):
        super().__init__()
        self.shape = shape
        self.tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.positions = nn.Embedding(shape.positions, shape.width)
        self.norm = LayerNorm(shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        initialise_bert(self)

    def forward(self, ids_T: Tensor, layout: Layout, at_M: Tensor | None = None) -> Tensor:
        """States [M, D] at the packed places `at_M` (int64), or [T, D] at all of them."""
        x_TD = self.tokens(ids_T) + self.positions(layout.positions_T)
        x_TD = F.dropout(self.norm(x_TD), self.shape.dropout, self.training)
        for layer in self.layers[:-1]:
            x_TD = layer(x_TD, layout)
        return self.layers[-1](x_TD, layout, at_M)


class Layer(nn.Module):
    """Attention and feed-forward, each followed by residual sum and LayerNorm."""

    def __init__(self, shape: EncoderShape):
        super().__init__()
        self.heads = shape.heads
        self.dropout = shape.dropout
        self.query = nn.Linear(shape.width, shape.width)
        self.key_value = nn.Linear(shape.width, 2 * shape.width)
        self.output = nn.Linear(shape.width, shape.width)
        self.attention_norm = LayerNorm(shape.width)
        self.up = nn.Linear(shape.width, shape.feed_forward)
        self.down = nn.Linear(shape.feed_forward, shape.width)
        self.norm = LayerNorm(shape.width)

    def forward(self, x_TD: Tensor, layout: Layout, at_M: Tensor | None = None) -> Tensor:
        residual = x_TD if at_M is None else x_TD[at_M]
        dropout = self.dropout if self.training else 0.0
        mixed = attention(
            self.query(residual), self.key_value(x_TD), layout, at_M, self.heads, dropout
        )
        x = self.attention_norm(residual + F.dropout(self.output(mixed), dropout, self.training))
        hidden = F.dropout(self.down(F.gelu(self.up(x))), dropout, self.training)
        return self.norm(x + hidden)


def attention(
    query: Tensor, kv: Tensor, layout: Layout, at_M: Tensor | None, heads: int, dropout: float
) -> Tensor:
    """Every token attends to the tokens of its own sequence.

    query [T, D] or, with `at_M`, [M, D]; kv [T, 2 D]; returns the shape of `query`.
    """
    if at_M is not None:
        return _attention_at(query, kv, layout, at_M, heads, dropout)
    out, done = [], 0
    # Runs of equal length (DNABERT's mix has half its windows at full length) are one call each.
    for length, count in _runs(layout.lengths):
        part = slice(done, done + length * count)
        q = _split_heads(query[part], count, heads)
        k, v = (_split_heads(x, count, heads) for x in kv[part].chunk(2, -1))
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)  # [n, H, L, E]
        out.append(mixed.transpose(1, 2).reshape(length * count, -1))
        done = part.stop
    return torch.cat(out) if len(out) > 1 else out[0]


def _attention_at(
    query_MD: Tensor, kv: Tensor, layout: Layout, at_M: Tensor, heads: int, dropout: float
) -> Tensor:
    """Attention for some positions only; `at_M` ascends."""
    ends = torch.tensor(layout.lengths).cumsum(0)
    upto = torch.searchsorted(at_M.cpu(), ends).tolist()
    out, token, row = [], 0, 0
    for length, stop in zip(layout.lengths, upto, strict=True):
        if stop > row:
            q = _split_heads(query_MD[row:stop], 1, heads)
            k, v = (_split_heads(x, 1, heads) for x in kv[token : token + length].chunk(2, -1))
            mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
            out.append(mixed[0].transpose(0, 1).reshape(stop - row, -1))
        token, row = token + length, stop
    if (
        not out
    ):  # nothing is masked: keep keys and values in the graph, DDP waits for their gradients
        return query_MD + 0.0 * kv.sum()
    return torch.cat(out)


def _runs(lengths: tuple[int, ...]) -> list[tuple[int, int]]:
    """(length, how many in a row) of consecutive sequences of equal length."""
    runs: list[tuple[int, int]] = []
    for length in lengths:
        if runs and runs[-1][0] == length:
            runs[-1] = (length, runs[-1][1] + 1)
        else:
            runs.append((length, 1))
    return runs


def _split_heads(x: Tensor, count: int, heads: int) -> Tensor:
    """[n * L, D] -> [n, H, L, E]"""
    return x.view(count, x.shape[0] // count, heads, -1).transpose(1, 2)


class MaskedLanguageModel(nn.Module):
    """Encoder and BERT's prediction head, whose output weights are the token embeddings."""

    def __init__(self, shape: EncoderShape):
        super().__init__()
        self.encoder = Encoder(shape)
        self.transform = nn.Linear(shape.width, shape.width)
        self.norm = LayerNorm(shape.width)
        self.bias = nn.Parameter(torch.zeros(shape.vocabulary))
        initialise_bert(self)

    def forward(self, ids_T: Tensor, layout: Layout, at_M: Tensor) -> Tensor:
        """Logits [M, V] at the packed places `at_M`."""
        x_MD = self.encoder(ids_T, layout, at_M)
        x_MD = self.norm(F.gelu(self.transform(x_MD)))
        return F.linear(x_MD, self.encoder.tokens.weight, self.bias)


class LayerNorm(nn.LayerNorm):
    """BERT's epsilon."""

    def __init__(self, width: int):
        super().__init__(width, eps=1e-12)


def initialise_bert(module: nn.Module) -> None:
    """BERT's initialisation: weights normal with deviation 0.02, biases 0, LayerNorm 1 and 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=0.02)
        if isinstance(part, nn.Linear):
            nn.init.zeros_(part.bias)
