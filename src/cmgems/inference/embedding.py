"""Sequences as vectors: pooled or per token, of any layer.

A sequence longer than the positions is covered by windows that overlap by a quarter or more; pooled
vectors are means over the windows (`max`: the largest), with `tokens` each token has the hidden
state of the first window that it is in.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cmgems.inference.encode import arithmetic, compute_hidden_states, inner
from cmgems.models.encoder import Encoder
from cmgems.tasks.dataset import Sequences, pack_codes
from cmgems.tasks.tokens import Tokens, batches, tokenize_windows
from cmgems.tasks.truncation import mean_over_windows
from cmgems.tokenization import Tokenization

POOLS = ("mean", "cls", "max")


def embed_sequences(
    encoder: Encoder,
    data: Sequences,
    tokenization: Tokenization,
    pool: str = "mean",
    layer: int | None = None,
    bf16: bool = False,
) -> np.ndarray:
    """float32 [N, D]: one vector per sequence.

    Parameters
    ----------
    pool : `mean` and `max` over the tokens without [CLS] and [SEP]; `cls`: that of [CLS]
    layer : 0 the embeddings, 1 the first layer, ...; None: the last

    Raises
    ------
    UserError
        If a sequence is too short to have a token.
    """
    positions = encoder.config.max_position_embeddings
    tokens, rows = tokenize_windows(data, tokenization, positions)
    vectors = torch.empty(len(tokens), encoder.config.hidden_size)
    for batch in _hidden_states(encoder, tokens, layer, bf16):
        vectors[batch.rows] = pool_hidden_states(*batch[1:], pool)
    if pool == "max":
        out = np.full((len(data), encoder.config.hidden_size), -np.inf, np.float32)
        np.maximum.at(out, rows.example, vectors.numpy())
        return out
    return mean_over_windows(vectors, torch.from_numpy(rows.example), len(data)).numpy()


def pool_hidden_states(hidden_states_BKD: Tensor, attention_mask_BK: Tensor, pool: str) -> Tensor:
    """One vector per sequence, [B, D]; see `embed_sequences`."""
    if pool == "cls":
        return hidden_states_BKD[:, 0]
    pooled_BK1 = inner(attention_mask_BK)[..., None]
    if pool == "max":
        return hidden_states_BKD.masked_fill(~pooled_BK1, -torch.inf).amax(1)
    return (hidden_states_BKD * pooled_BK1).sum(1) / pooled_BK1.sum(1)


def embed_tokens(
    encoder: Encoder,
    codes: np.ndarray,
    tokenization: Tokenization,
    layer: int | None = None,
    bf16: bool = False,
) -> np.ndarray:
    """float32 [K, D]: the hidden state of each token of one sequence, base codes uint8 [L]."""
    positions = encoder.config.max_position_embeddings
    tokens, rows = tokenize_windows(pack_codes([codes]), tokenization, positions)
    count = int((rows.start + tokens.lengths_N.numpy() - 2).max())
    out = np.empty((count, encoder.config.hidden_size), np.float32)
    filled = np.zeros(len(out), bool)
    for index, hidden_states, mask in _hidden_states(encoder, tokens, layer, bf16):
        for row, states_KD, tokens_K in zip(
            index.tolist(), hidden_states, inner(mask), strict=True
        ):
            position = rows.start[row] + np.arange(int(tokens_K.sum()))
            new = ~filled[position]
            out[position[new]] = states_KD[tokens_K].numpy()[new]
            filled[position] = True
    return out


class _Batch(NamedTuple):
    """Windows of similar length, on the CPU."""

    rows: Tensor  # int64 [B], their numbers
    hidden_states: Tensor  # float32 [B, K, D]
    attention_mask: Tensor  # bool [B, K]


@torch.no_grad()
def _hidden_states(
    encoder: Encoder, tokens: Tokens, layer: int | None, bf16: bool
) -> Iterator[_Batch]:
    """The hidden states of all windows, a batch at a time."""
    device = encoder.tokens.weight.device
    for index in batches(tokens):
        batch = tokens.select(index)
        with arithmetic(device, bf16):
            hidden_states = compute_hidden_states(encoder, batch, layer)
        yield _Batch(index, hidden_states.float().cpu(), batch.attention_mask())
