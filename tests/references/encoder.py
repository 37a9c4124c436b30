"""The encoder as plain as it can be written: padded batches, explicit softmax, every position.

Reads the weights of `cmgems.models.encoder.MaskedLanguageModel` and shares none of its code.
"""

import cmath
import math

import torch


def layer_norm(x, norm):
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    normed = (x - mean) / (variance + 1e-12).sqrt() * norm.weight
    return normed if norm.bias is None else normed + norm.bias


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def linear(x, part):
    product = x @ part.weight.T
    return product if part.bias is None else product + part.bias


def states(encoder, ids, real):
    """ids int64 [B, L], real bool [B, L] (False on padding) -> [B, L, D]"""
    config = encoder.config
    x = encoder.tokens.weight[ids]
    if config.token_dropout:
        lengths = real.sum(1).tolist()
        x = x * torch.stack([undropped(*pair) for pair in zip(ids, lengths, strict=True)])
    if config.position_embedding == "learned":
        x = x + encoder.positions.weight[: ids.shape[1]]
    if config.conv_stem:
        stem = encoder.stem.convolution
        weight = stem.weight.unflatten(1, (config.conv_stem, -1)).transpose(1, 2)
        x = x + gelu(convolved(x, real, weight, stem.bias, 1))
    if config.embedding_norm:
        x = layer_norm(x, encoder.norm)
    for number, layer in enumerate(encoder.layers):
        if config.norm == "post":
            x = layer_norm(x + mixed(x, real, layer.mixer, config, number), layer.mixer_norm)
            x = layer_norm(x + fed_forward(x, layer.mlp, config.mlp), layer.norm)
        else:
            plain = number == 0 and config.embedding_norm
            normed = x if plain else layer_norm(x, layer.mixer_norm)
            x = x + mixed(normed, real, layer.mixer, config, number)
            x = x + fed_forward(layer_norm(x, layer.norm), layer.mlp, config.mlp)
    return layer_norm(x, encoder.final_norm) if config.norm == "pre" else x


def undropped(ids, length):
    """Factors [L, 1] of one sequence: ESM's token dropout, where [MASK] is 4."""
    masked = ids[:length].tolist().count(4)
    kept = (1 - 0.15 * 0.8) / (1 - masked / length)
    return torch.tensor([[0.0 if id_ == 4 else kept] for id_ in ids.tolist()], dtype=torch.float64)


def mixed(x, real, part, config, number):
    if hasattr(part, "query"):
        return attended(x, real, part, config, number)
    weight = part.matrix.weight.unflatten(1, (-1, config.conv_kernel))
    return gelu(convolved(x, real, weight, part.matrix.bias, part.dilation))


def convolved(x, real, weight, bias, dilation):
    """Each sequence alone, tap by tap: zeros beyond its ends. weight [out, in, W]"""
    kernel = weight.shape[2]
    out = torch.zeros_like(x)
    for row, length in enumerate(real.sum(1).tolist()):
        for at in range(length):
            for tap in range(kernel):
                neighbor = at + (tap - kernel // 2) * dilation
                if 0 <= neighbor < length:
                    out[row, at] = out[row, at] + weight[:, :, tap] @ x[row, neighbor]
    return out if bias is None else out + bias


def fed_forward(x, part, kind):
    inner = linear(x, part.up)
    if kind == "gelu":
        return linear(gelu(inner), part.down)
    half = inner.shape[-1] // 2
    gate = inner[..., :half]
    opened = gelu(gate) if kind == "geglu" else gate / (1 + (-gate).exp())
    return linear(opened * inner[..., half:], part.down)


def attended(x, real, part, config, number):
    value = linear(x, part.key_value).chunk(2, -1)[1]
    value = value.unflatten(-1, (config.num_heads, -1)).transpose(1, 2)
    weights = attention_weights(x, real, part, config, number)
    return linear((weights @ value).transpose(1, 2).flatten(2), part.output)


def attention_weights(x, real, part, config, number):
    """[B, H, L, L]: of the token of the row to that of the column"""
    every = config.global_attention_every_n_layers
    local = config.local_attention > 0 and not (every > 0 and number % every == 0)
    base = config.local_rotary_base if local else config.rotary_base
    heads, length = config.num_heads, x.shape[1]
    query = linear(x, part.query)
    key = linear(x, part.key_value).chunk(2, -1)[0]
    query, key = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (query, key))
    if config.position_embedding == "rotary":
        query, key = turned(query, base), turned(key, base)
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if config.position_embedding == "alibi":
        distance = [[abs(i - j) for j in range(length)] for i in range(length)]
        scores = scores - torch.tensor(
            [[[slope * d for d in row] for row in distance] for slope in slopes(heads)],
            dtype=x.dtype,
        )
    if local:
        far = [
            [abs(i - j) > config.local_attention / 2 for j in range(length)] for i in range(length)
        ]
        scores = scores.masked_fill(torch.tensor(far), -math.inf)
    seen = real[:, None, None, :] | torch.eye(length, dtype=torch.bool)  # padding sees something
    return scores.masked_fill(~seen, -math.inf).softmax(-1)


def turned(x, base):
    """x [B, H, L, E]: features e and e + E / 2 are a complex number; it turns by position times
    base^(-2 e / E)."""
    half = x.shape[-1] // 2
    turns = [
        [cmath.exp(1j * position * base ** (-2 * e / x.shape[-1])) for e in range(half)]
        for position in range(x.shape[2])
    ]
    number = torch.complex(x[..., :half], x[..., half:]) * torch.tensor(
        turns, dtype=torch.complex128
    )
    return torch.cat([number.real, number.imag], -1)


def slopes(heads):
    """Of the paper, for a power of 2: 2^(-8/H), 2^(-16/H), ..., 2^(-8)."""
    assert heads & (heads - 1) == 0
    return [2 ** (-8 * head / heads) for head in range(1, heads + 1)]


def logits(model, ids, real):
    """[B, L, V]"""
    x = layer_norm(gelu(linear(states(model.encoder, ids, real), model.head_dense)), model.norm)
    output = model.encoder.tokens if model.encoder.config.tie_embeddings else model.decoder
    return x @ output.weight.T + model.bias
