"""Sequences as token ids, and in batches of similar length.

A sequence that has more tokens than the encoder has positions is cut to its middle.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cmgems.errors import UserError
from cmgems.tasks.dataset import Sequences
from cmgems.tasks.truncation import make_rows
from cmgems.tokenization.base import CLS, PAD, SEP, Tokenization

TOKENS_PER_BATCH = 4096  # without training; the states of more fit no cache


class Tokens(NamedTuple):
    """N sequences as token ids, from [CLS] to [SEP], padded on the right."""

    ids_NL: Tensor  # int16
    lengths_N: Tensor  # int64: tokens that are not padding

    def __len__(self) -> int:
        return len(self.ids_NL)

    def select(self, index: Tensor) -> "Tokens":
        """Those at `index` (any shape), without columns in which there is only padding."""
        lengths = self.lengths_N[index]
        max_length = int(lengths.max()) if lengths.numel() else 0
        return Tokens(self.ids_NL[index][..., :max_length], lengths)

    def attention_mask(self) -> Tensor:
        """bool, shape of the ids: False at padding."""
        return torch.arange(self.ids_NL.shape[-1]) < self.lengths_N[..., None]


def tokenise(data: Sequences, tokenization: Tokenization, positions: int) -> Tokens:
    """Token ids of all sequences; of those with too many tokens the middle.

    Raises
    ------
    UserError
        If a sequence is too short to have a token.
    """
    starts, lengths, _ = make_rows(data, tokenization.max_bases(positions))
    min_length = tokenization.min_bases
    if len(lengths) and lengths.min() < min_length:
        i = int(np.argmin(lengths))
        raise UserError(
            f"sequence {i + 1}: found {lengths[i]} bases, wanted at least {min_length}: the "
            f"model's tokens are {tokenization.description}"
        )
    longest = int(lengths.max()) if len(lengths) else min_length
    ids_NL = torch.full((len(lengths), tokenization.num_tokens(longest)), PAD, dtype=torch.int16)
    ids_NL[:, 0] = CLS
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        codes = data.codes[starts[rows][:, None] + np.arange(length)]
        ids = tokenization.encode(torch.from_numpy(codes)).to(torch.int16)
        ids_NL[rows, 1 : ids.shape[1] + 1] = ids
    tokens_N = torch.from_numpy(tokenization.num_tokens(lengths))
    ids_NL[torch.arange(len(ids_NL)), tokens_N - 1] = SEP
    return Tokens(ids_NL, tokens_N)


def batches(tokens: Tokens, tokens_per_batch: int = TOKENS_PER_BATCH) -> list[Tensor]:
    """The indices of the sequences in batches of similar length, the longest first."""
    order = torch.argsort(tokens.lengths_N, descending=True, stable=True)
    parts, start = [], 0
    while start < len(order):
        size = max(1, tokens_per_batch // int(tokens.lengths_N[order[start]]))
        parts.append(order[start : start + size])
        start += size
    return parts
