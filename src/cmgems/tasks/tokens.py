"""Sequences as token ids, and in batches of similar length.

A sequence that has more tokens than the encoder has positions is cut to its middle.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cmgems.errors import UserError
from cmgems.tasks.dataset import Sequences, compute_offsets, pack_codes
from cmgems.tasks.truncation import Rows, cut_rows, make_rows
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


def tokenize(data: Sequences, tokenization: Tokenization, positions: int) -> Tokens:
    """Token ids of all sequences; of those with too many tokens the middle.

    Raises
    ------
    UserError
        If a sequence is too short to have a token.
    """
    _check_lengths(data, tokenization)
    if tokenization.on_host:
        return _cut_tokens(data, tokenization, positions, "middle")[0]
    starts, lengths, _ = make_rows(data, tokenization.max_bases(positions))
    longest = int(lengths.max()) if len(lengths) else tokenization.min_bases
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


def tokenize_windows(
    data: Sequences, tokenization: Tokenization, positions: int
) -> tuple[Tokens, Rows]:
    """Token ids of windows that cover all sequences, and which windows they are: those of a
    sequence begin so many tokens behind its first one.

    Raises
    ------
    UserError
        If a sequence is too short to have a token.
    """
    if tokenization.on_host:
        _check_lengths(data, tokenization)
        return _cut_tokens(data, tokenization, positions, "windows")
    rows = make_rows(data, tokenization.max_bases(positions), "windows")
    windows = pack_codes(
        data.codes[start : start + length]
        for start, length in zip(rows.start.tolist(), rows.length.tolist(), strict=True)
    )
    first = rows.start - data.offsets[rows.example]  # a token begins at each base
    return tokenize(windows, tokenization, positions), rows._replace(start=first)


def _check_lengths(data: Sequences, tokenization: Tokenization) -> None:
    lengths, min_length = data.lengths, tokenization.min_bases
    if len(lengths) and lengths.min() < min_length:
        i = int(np.argmin(lengths))
        raise UserError(
            f"sequence {i + 1}: found {lengths[i]} bases, wanted at least {min_length}: the "
            f"model's tokens are {tokenization.description}"
        )


def _cut_tokens(
    data: Sequences, tokenization: Tokenization, positions: int, over: str
) -> tuple[Tokens, Rows]:
    """Rows of at most `positions` tokens, cut between tokens: only the host knows them."""
    ids = [
        tokenization.encode(torch.from_numpy(data.codes[start:end])).numpy()
        for start, end in pairwise(data.offsets.tolist())
    ]
    offsets = compute_offsets(np.array([len(each) for each in ids], np.int64))
    rows = cut_rows(offsets, positions - 2, over)
    rows = rows._replace(start=rows.start - offsets[rows.example])
    longest = int(rows.length.max()) if len(rows.length) else 1
    ids_NL = np.full((len(rows.length), longest + 2), PAD, np.int16)
    ids_NL[:, 0] = CLS
    for row, (start, length, example) in enumerate(zip(*(x.tolist() for x in rows), strict=True)):
        ids_NL[row, 1 : length + 1] = ids[example][start : start + length]
        ids_NL[row, length + 1] = SEP
    return Tokens(torch.from_numpy(ids_NL), torch.from_numpy(rows.length + 2)), rows


def batches(tokens: Tokens, tokens_per_batch: int = TOKENS_PER_BATCH) -> list[Tensor]:
    """The indices of the sequences in batches of similar length, the longest first."""
    order = torch.argsort(tokens.lengths_N, descending=True, stable=True)
    parts, start = [], 0
    while start < len(order):
        size = max(1, tokens_per_batch // int(tokens.lengths_N[order[start]]))
        parts.append(order[start : start + size])
        start += size
    return parts
