"""The encoder as plain as it can be written: padded batches, explicit softmax, every position.

Reads the weights of `cmgems.models.encoder.MaskedLanguageModel` and shares none of its code.
"""

import math

import torch


def layer_norm(x, norm):
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / (variance + 1e-12).sqrt() * norm.weight + norm.bias


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def linear(x, part):
    return x @ part.weight.T + part.bias


def states(encoder, ids, real):
    """ids int64 [B, L], real bool [B, L] (False on padding) -> [B, L, D]"""
    length, heads = ids.shape[1], encoder.config.num_heads
    x = layer_norm(encoder.tokens.weight[ids] + encoder.positions.weight[:length], encoder.norm)
    for layer in encoder.layers:
        query = linear(x, layer.query)
        key, value = linear(x, layer.key_value).chunk(2, -1)
        query, key, value = (
            part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value)
        )
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        scores = scores.masked_fill(~real[:, None, None, :], -math.inf)
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        x = layer_norm(x + linear(mixed, layer.output), layer.attention_norm)
        x = layer_norm(x + linear(gelu(linear(x, layer.up)), layer.down), layer.norm)
    return x


def logits(model, ids, real):
    """[B, L, V]"""
    x = layer_norm(gelu(linear(states(model.encoder, ids, real), model.transform)), model.norm)
    return x @ model.encoder.tokens.weight.T + model.bias
