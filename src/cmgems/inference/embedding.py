"""Sequences as vectors: pooled or per token, of any layers.

The vectors of several layers stand one after the other; one pass gives them all. A sequence longer
than the positions is covered by windows that overlap by a quarter or more; means are taken over the
windows, maxima are the largest, and each token has the hidden state of the first window that it is
in.

Shapes: N sequences, B windows of a batch, K tokens, D width, P = pools x layers, A = the number of
layers.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cmgems.inference.encode import arithmetic, compute_layers, inner
from cmgems.models.encoder import Encoder
from cmgems.tasks.dataset import Sequences, pack_codes
from cmgems.tasks.tokens import Tokens, batches, tokenize_windows
from cmgems.tasks.truncation import mean_over_windows
from cmgems.tokenization import Tokenization

# name -> what of the tokens of a sequence becomes its vector: one statistic, or two side by side
POOLS: dict[str, tuple[str, ...]] = {
    "mean": ("mean",),
    "cls": ("cls",),
    "max": ("max",),
    "mean_max": ("mean", "max"),
    "middle": ("middle",),
}
LAST: tuple[int, ...] = (-1,)  # layers: the last alone
ALL: tuple[int, ...] = ()  # layers: each one, without the embeddings


def resolve_layers(layers: Sequence[int], num_layers: int) -> list[int]:
    """Layers as the user gives them, counted from 0 (the embeddings) to `num_layers`.

    Parameters
    ----------
    layers : 0 the embeddings, 1 the first layer, ...; -1 the last, -2 the one before it, ...;
        none: all but the embeddings

    Raises
    ------
    ValueError
        If the encoder has no such layer, or one is given twice; the message says what was found.
    """
    for layer in layers:
        if not -num_layers <= layer <= num_layers:
            raise ValueError(f"found {layer}, wanted {-num_layers} to {num_layers}")
    found = [layer if layer >= 0 else num_layers + 1 + layer for layer in layers]
    if len(set(found)) < len(found):
        raise ValueError(f"found {list(layers)}, wanted each layer once")
    return found or list(range(1, num_layers + 1))


def embed_sequences(
    encoder: Encoder,
    data: Sequences,
    tokenization: Tokenization,
    pool: str = "mean",
    layers: Sequence[int] = LAST,
    bf16: bool = False,
) -> np.ndarray:
    """float32 [N, P D]: one vector per sequence, the pools of the first layer, then of the next.

    Parameters
    ----------
    pool : a key of `POOLS`; `mean` and `max` over the tokens without [CLS] and [SEP], `cls` that of
        [CLS], `mean_max` the mean and then the maximum, `middle` that of the token in the middle
        (of each window)
    layers : see `resolve_layers`

    Raises
    ------
    UserError
        If a sequence is too short to have a token.
    """
    tokens, rows = tokenize_windows(data, tokenization, encoder.config.max_position_embeddings)
    width, statistics = encoder.config.hidden_size, POOLS[pool]
    chosen = resolve_layers(layers, encoder.config.num_layers)
    vectors = torch.empty(len(tokens), len(chosen), len(statistics), width)
    for index, states, mask in _hidden_states(encoder, tokens, chosen, bf16):
        for number, states_BKD in enumerate(states):
            vectors[index, number] = pool_hidden_states(states_BKD, mask, pool).cpu()
    out = torch.empty(len(data), *vectors.shape[1:])
    example = torch.from_numpy(rows.example)
    for number, statistic in enumerate(statistics):
        over_windows = _largest if statistic == "max" else mean_over_windows
        pooled = over_windows(vectors[:, :, number].flatten(1), example, len(data))
        out[:, :, number] = pooled.unflatten(1, (len(chosen), width))
    return out.flatten(1).numpy()


def pool_hidden_states(hidden_states_BKD: Tensor, attention_mask_BK: Tensor, pool: str) -> Tensor:
    """The statistics of a pool per sequence, [B, 1 or 2, D]; see `embed_sequences`."""
    pooled_BK1 = inner(attention_mask_BK)[..., None]
    parts = []
    for statistic in POOLS[pool]:
        if statistic == "cls":
            parts.append(hidden_states_BKD[:, 0])
        elif statistic == "max":
            parts.append(hidden_states_BKD.masked_fill(~pooled_BK1, -torch.inf).amax(1))
        elif statistic == "middle":
            middle_B = attention_mask_BK.sum(1) // 2  # of K tokens behind [CLS], token K // 2
            parts.append(hidden_states_BKD[torch.arange(len(middle_B)), middle_B])
        else:
            parts.append((hidden_states_BKD * pooled_BK1).sum(1) / pooled_BK1.sum(1))
    return torch.stack(parts, 1)


def _largest(vectors: Tensor, example: Tensor, count: int) -> Tensor:
    """[count, D]: the largest over the windows of each example."""
    out = np.full((count, vectors.shape[1]), -np.inf, np.float32)
    np.maximum.at(out, example.numpy(), vectors.numpy())
    return torch.from_numpy(out)


def embed_tokens(
    encoder: Encoder,
    codes: np.ndarray,
    tokenization: Tokenization,
    layers: Sequence[int] = LAST,
    bf16: bool = False,
) -> np.ndarray:
    """float32 [K, A D]: the hidden states of each token of one sequence, base codes uint8 [L]."""
    positions = encoder.config.max_position_embeddings
    tokens, rows = tokenize_windows(pack_codes([codes]), tokenization, positions)
    count = int((rows.start + tokens.lengths_N.numpy() - 2).max())
    chosen = resolve_layers(layers, encoder.config.num_layers)
    out = np.empty((count, len(chosen) * encoder.config.hidden_size), np.float32)
    filled = np.zeros(len(out), bool)
    for index, states, mask in _hidden_states(encoder, tokens, chosen, bf16):
        for row, states_KD, tokens_K in zip(
            index.tolist(), torch.cat(states, -1).cpu(), inner(mask).cpu(), strict=True
        ):
            position = rows.start[row] + np.arange(int(tokens_K.sum()))
            new = ~filled[position]
            out[position[new]] = states_KD[tokens_K].numpy()[new]
            filled[position] = True
    return out


class _Batch(NamedTuple):
    """Windows of similar length."""

    rows: Tensor  # int64 [B], their numbers, on the CPU
    hidden_states: list[Tensor]  # float32 [B, K, D] of each layer, on the device of the encoder
    attention_mask: Tensor  # bool [B, K], there


@torch.no_grad()
def _hidden_states(
    encoder: Encoder, tokens: Tokens, layers: Sequence[int], bf16: bool
) -> Iterator[_Batch]:
    """The hidden states of all windows after each of the layers, a batch at a time."""
    device = encoder.tokens.weight.device
    for index in batches(tokens):
        batch = tokens.select(index)
        with arithmetic(device, bf16):
            states = compute_layers(encoder, batch, layers)
        yield _Batch(index, [x.float() for x in states], batch.attention_mask().to(device))
