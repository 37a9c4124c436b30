"""Sequences as vectors: pooled or per token, of any layer.

A sequence longer than the positions is covered by windows that overlap by a quarter or more; pooled
vectors are means over the windows (`max`: the largest), of `tokens` each k-mer has the state of the
first window in which it stands.
"""

import numpy as np
import torch
from torch import Tensor

from cmgems.inference.encode import arithmetic, inner, states_of
from cmgems.models.encoder import Encoder
from cmgems.tasks.dataset import Sequences, pack_codes
from cmgems.tasks.tokens import batches, tokenise
from cmgems.tasks.truncation import Rows, make_rows, mean_over_windows, most_bases

POOLS = ("mean", "cls", "max")


def pooled(
    encoder: Encoder,
    data: Sequences,
    k: int,
    pool: str = "mean",
    layer: int | None = None,
    bf16: bool = False,
) -> np.ndarray:
    """float32 [N, D]: a vector of each sequence.

    Parameters
    ----------
    pool : `mean` and `max` over the k-mers, without [CLS] and [SEP]; `cls`: the state of [CLS]
    layer : 0 the embeddings, 1 the first layer, ...; None: the last

    Raises
    ------
    UserError
        If a sequence has fewer than k bases.
    """
    rows = make_rows(data, most_bases(encoder.config.max_position_embeddings, k), "windows")
    vectors = torch.empty(len(rows.start), encoder.config.hidden_size)
    for numbers, states, real in _states(encoder, data, rows, k, layer, bf16):
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
    encoder: Encoder, codes: np.ndarray, k: int, layer: int | None = None, bf16: bool = False
) -> np.ndarray:
    """float32 [L - k + 1, D]: the state of each k-mer of one sequence, base codes uint8 [L]."""
    data = pack_codes([codes])
    rows = make_rows(data, most_bases(encoder.config.max_position_embeddings, k), "windows")
    out = np.empty((len(codes) - k + 1, encoder.config.hidden_size), np.float32)
    filled = np.zeros(len(out), bool)
    for numbers, states, real in _states(encoder, data, rows, k, layer, bf16):
        for number, its, tokens in zip(numbers.tolist(), states, inner(real), strict=True):
            place = rows.start[number] + np.arange(int(tokens.sum()))
            new = ~filled[place]
            out[place[new]] = its[tokens].numpy()[new]
            filled[place] = True
    return out


@torch.no_grad()
def _states(encoder: Encoder, data: Sequences, rows: Rows, k: int, layer: int | None, bf16: bool):
    """Yield (numbers of the rows, states float32 [B, L, D], real tokens [B, L]) on the CPU."""
    device = encoder.tokens.weight.device
    windows = pack_codes(
        data.codes[start : start + length]
        for start, length in zip(rows.start.tolist(), rows.length.tolist(), strict=True)
    )
    tokens = tokenise(windows, k, encoder.config.max_position_embeddings)
    for numbers in batches(tokens):
        batch = tokens.select(numbers)
        with arithmetic(device, bf16):
            states = states_of(encoder, batch, layer)
        yield numbers, states.float().cpu(), batch.attention_mask()
