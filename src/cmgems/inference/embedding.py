"""Sequences as vectors: pooled or per token, of any layer.

A sequence longer than the positions is covered by windows that overlap by a quarter or more; pooled
vectors are means over the windows (`max`: the largest), of `tokens` each token has the state of the
first window in which it stands.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from cmgems.inference.encode import arithmetic, compute_hidden_states, inner
from cmgems.models.encoder import Encoder
from cmgems.tasks.dataset import Sequences, pack_codes
from cmgems.tasks.tokens import batches, tokenise
from cmgems.tasks.truncation import Rows, make_rows, mean_over_windows
from cmgems.tokenization import Tokenization

POOLS = ("mean", "cls", "max")


def pooled(
    encoder: Encoder,
    data: Sequences,
    tokenization: Tokenization,
    pool: str = "mean",
    layer: int | None = None,
    bf16: bool = False,
) -> np.ndarray:
    """float32 [N, D]: a vector of each sequence.

    Parameters
    ----------
    pool : `mean` and `max` over the tokens, without [CLS] and [SEP]; `cls`: the state of [CLS]
    layer : 0 the embeddings, 1 the first layer, ...; None: the last

    Raises
    ------
    UserError
        If a sequence is too short to have a token.
    """
    rows = _windows(encoder, data, tokenization)
    vectors = torch.empty(len(rows.start), encoder.config.hidden_size)
    for numbers, states, real in _states(encoder, data, rows, tokenization, layer, bf16):
        vectors[numbers] = pool_states(states, real, pool)
    if pool == "max":
        out = np.full((len(data), encoder.config.hidden_size), -np.inf, np.float32)
        np.maximum.at(out, rows.example, vectors.numpy())
        return out
    return mean_over_windows(vectors, torch.from_numpy(rows.example), len(data)).numpy()


def pool_states(states_BLD: Tensor, real_BL: Tensor, pool: str) -> Tensor:
    """[B, D]"""
    if pool == "cls":
        return states_BLD[:, 0]
    its = inner(real_BL)[..., None]
    if pool == "max":
        return states_BLD.masked_fill(~its, -torch.inf).amax(1)
    return (states_BLD * its).sum(1) / its.sum(1)


def per_token(
    encoder: Encoder,
    codes: np.ndarray,
    tokenization: Tokenization,
    layer: int | None = None,
    bf16: bool = False,
) -> np.ndarray:
    """float32 [T, D]: the state of each token of one sequence, base codes uint8 [L]."""
    data = pack_codes([codes])
    rows = _windows(encoder, data, tokenization)
    out = np.empty(
        (tokenization.content_tokens(len(codes)), encoder.config.hidden_size), np.float32
    )
    filled = np.zeros(len(out), bool)
    for numbers, states, real in _states(encoder, data, rows, tokenization, layer, bf16):
        for number, its, tokens in zip(numbers.tolist(), states, inner(real), strict=True):
            # a token begins at each base, but for the last few
            place = rows.start[number] + np.arange(int(tokens.sum()))
            new = ~filled[place]
            out[place[new]] = its[tokens].numpy()[new]
            filled[place] = True
    return out


def _windows(encoder: Encoder, data: Sequences, tokenization: Tokenization) -> Rows:
    """Windows that the encoder has positions for."""
    most = tokenization.max_bases(encoder.config.max_position_embeddings)
    return make_rows(data, most, "windows")


@torch.no_grad()
def _states(
    encoder: Encoder,
    data: Sequences,
    rows: Rows,
    tokenization: Tokenization,
    layer: int | None,
    bf16: bool,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (numbers of the rows, states float32 [B, L, D], real tokens [B, L]) on the CPU."""
    device = encoder.tokens.weight.device
    windows = pack_codes(
        data.codes[start : start + length]
        for start, length in zip(rows.start.tolist(), rows.length.tolist(), strict=True)
    )
    tokens = tokenise(windows, tokenization, encoder.config.max_position_embeddings)
    for numbers in batches(tokens):
        batch = tokens.select(numbers)
        with arithmetic(device, bf16):
            states = compute_hidden_states(encoder, batch, layer)
        yield numbers, states.float().cpu(), batch.attention_mask()
