"""G classifiers of one shape, trained side by side: every parameter has a model axis in front.

A few-shot sweep is hundreds of trainings of a few hundred steps each, on batches so small that a
GPU idles between two operations. Draws and seeds of one task share everything but their numbers,
so they are one computation with another axis: a matrix product becomes a batched one. What one of
the models computes does not depend on the others beside it (dropout included, see `Dropout`).

This is the encoder of `cmgems.models.encoder` on dense batches, with its parameters under its
names, so that `StackedEncoder.take` gives back an `Encoder`'s state; the tests hold the two equal.

Shapes: G models, B sequences, L tokens (padded on the right), D width, H heads, E = D / H,
P places at which the last layer is computed.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmgems.models.encoder import Encoder, EncoderConfig
from cmgems.models.linear import linear

EPS = 1e-12  # BERT's, of its LayerNorms
BITS = 16  # a dropout decision takes so many random bits


class Dropout:
    """Dropout whose draws belong to the model: each has a generator of its own.

    Padding takes draws too: with sequences of several lengths, what a model drops depends on how
    far its batches are padded, and so on the longest sequence of the models beside it.

    Parameters
    ----------
    rate : share that is dropped, rounded to a multiple of 2**-16
    seeds : one for each of the G models
    """

    def __init__(self, rate: float, seeds: list[int], device: torch.device | str = "cpu"):
        self.threshold = round(rate * 2**BITS)
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, x: Tensor) -> Tensor:
        """Drop entries of x [G, ...]; those that stay are scaled up."""
        if not self.threshold:
            return x
        words = -(-x[0].numel() // 4)
        bits = torch.empty(len(x), words, dtype=torch.int64, device=x.device)
        for row, generator in zip(bits, self.generators, strict=True):
            row.random_(-(2**63), None, generator=generator)
        kept = bits.view(torch.int16)[:, : x[0].numel()] >= self.threshold - 2 ** (BITS - 1)
        return x * (kept.view_as(x).to(x.dtype) / (1 - self.threshold / 2**BITS))


class Linears(nn.Module):
    """A linear map for each of G models."""

    def __init__(self, models: int, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(models, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(models, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[G, ..., inputs] -> [G, ..., outputs]"""
        flat = x.reshape(len(x), -1, x.shape[-1])
        if len(flat) == 1:  # the same, by faster kernels: for small batches torch's, else oneDNN's
            product = F.linear if torch.is_grad_enabled() else linear
            out = product(flat[0], self.weight[0], self.bias[0])
            return out.view(*x.shape[:-1], -1)
        out = torch.bmm(flat, self.weight.mT) + self.bias[:, None].to(flat.dtype)
        return out.view(*x.shape[:-1], -1)


class Norms(nn.Module):
    """A LayerNorm for each of G models."""

    def __init__(self, models: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(models, width))
        self.bias = nn.Parameter(torch.zeros(models, width))

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 1:
            return F.layer_norm(x, x.shape[-1:], self.weight.squeeze(0), self.bias.squeeze(0), EPS)
        between = (len(x), *[1] * (x.ndim - 2), -1)
        plain = F.layer_norm(x, x.shape[-1:], eps=EPS)
        return torch.addcmul(self.bias.view(between), plain, self.weight.view(between))


class StackedEncoder(nn.Module):
    """G encoders of one shape.

    Parameters
    ----------
    encoders : their weights are copied; the same one may stand there several times
    """

    def __init__(self, encoders: list[Encoder]):
        super().__init__()
        models, self.config = len(encoders), encoders[0].shape
        shape = self.config
        self.tokens = nn.Module()
        self.positions = nn.Module()
        self.tokens.weight = nn.Parameter(torch.empty(models, shape.vocab_size, shape.hidden_size))
        self.positions.weight = nn.Parameter(
            torch.empty(models, shape.max_position_embeddings, shape.hidden_size)
        )
        self.norm = Norms(models, shape.hidden_size)
        self.layers = nn.ModuleList(StackedLayer(shape, models) for _ in range(shape.num_layers))
        states = [encoder.state_dict() for encoder in encoders]
        self.to(encoders[0].tokens.weight)
        self.load_state_dict({name: torch.stack([s[name] for s in states]) for name in states[0]})

    def forward(
        self,
        ids_GBL: Tensor,
        real_GBL: Tensor | None,
        dropout: Dropout,
        places: int | None = None,
        layers: int | None = None,
    ) -> Tensor:
        """States [G, B, P, D] of the first `places` tokens, or of all L.

        Parameters
        ----------
        ids_GBL : token ids
        real_GBL : False at padding; None where there is none
        layers : how many to run, 0 gives the embeddings; None: all
        """
        tables = self.tokens.weight
        first_row = torch.arange(len(tables), device=ids_GBL.device) * self.config.vocab_size
        x = F.embedding(ids_GBL.long() + first_row[:, None, None], tables.flatten(0, 1))
        x = x + self.positions.weight[:, None, : x.shape[2]]
        x = dropout(self.norm(x))
        layers = len(self.layers) if layers is None else layers
        for number, layer in enumerate(self.layers[:layers], 1):
            x = layer(x, real_GBL, dropout, places if number == layers else None)
        return x if layers else x[:, :, :places]

    def take(self, model: int) -> Encoder:
        """One of the models, as an encoder of its own."""
        encoder = Encoder(self.config).to(self.tokens.weight)
        encoder.load_state_dict({name: x[model] for name, x in self.state_dict().items()})
        return encoder.eval()


class StackedLayer(nn.Module):
    """`cmgems.models.encoder.Layer` of G models."""

    def __init__(self, shape: EncoderConfig, models: int):
        super().__init__()
        width, inner = shape.hidden_size, shape.intermediate_size
        self.heads = shape.num_heads
        self.query = Linears(models, width, width)
        self.key_value = Linears(models, width, 2 * width)
        self.output = Linears(models, width, width)
        self.attention_norm = Norms(models, width)
        self.up = Linears(models, width, inner)
        self.down = Linears(models, inner, width)
        self.norm = Norms(models, width)

    def forward(
        self, x_GBLD: Tensor, real_GBL: Tensor | None, dropout: Dropout, places: int | None = None
    ) -> Tensor:
        residual = x_GBLD if places is None else x_GBLD[:, :, :places]
        mixed = attention(
            self.query(residual), self.key_value(x_GBLD), real_GBL, self.heads, dropout
        )
        x = self.attention_norm(residual + dropout(self.output(mixed)))
        return self.norm(x + dropout(self.down(F.gelu(self.up(x)))))


def attention(
    query: Tensor, key_value: Tensor, real_GBL: Tensor | None, heads: int, dropout: Dropout
) -> Tensor:
    """query [G, B, P, D], key_value [G, B, L, 2 D] -> [G, B, P, D]"""
    models, batch, places, width = query.shape

    def split(x: Tensor) -> Tensor:  # [G, B, L, D] -> [G B, H, L, E]
        return x.view(models * batch, x.shape[2], heads, -1).transpose(1, 2)

    q, k, v = map(split, (query, *key_value.chunk(2, -1)))
    seen = None if real_GBL is None else real_GBL.expand(models, batch, -1)
    seen = None if seen is None else seen.reshape(models * batch, 1, 1, -1)
    if dropout.threshold:
        scores = (q / math.sqrt(q.shape[-1])) @ k.mT
        if seen is not None:
            scores = scores.masked_fill(~seen, -math.inf)
        share = dropout(F.softmax(scores, -1).view(models, -1)).view_as(scores)
        mixed = share.to(v.dtype) @ v
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    return mixed.transpose(1, 2).reshape(models, batch, places, width)


def inner(real: Tensor) -> Tensor:
    """bool, shape of `real`: the tokens between [CLS] and [SEP]."""
    behind = F.pad(real, (0, 1), value=False)[..., 1:]  # the next token is real too
    return behind & F.pad(real, (1, 0), value=False)[..., :-1]
