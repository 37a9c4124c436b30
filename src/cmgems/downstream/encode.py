"""Labelled sequences as token ids, and what an encoder makes of them.

What is longer than the positions is cut to its middle (`cut="middle"`), or read in consecutive
windows whose logits or states are averaged (`cut="windows"`, only where nothing is trained).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cmgems.downstream.labelled import Labelled
from cmgems.encoder import Encoder, Layout
from cmgems.errors import UserError
from cmgems.kmers import CLS, PAD, SEP, token_ids

TOKENS_AT_ONCE = 32_768  # of a batch of encoding


class Tokens(NamedTuple):
    """N sequences as token ids, [CLS] in front and [SEP] behind, padded on the right."""

    ids_NL: Tensor  # int16
    lengths_N: Tensor  # int64: tokens that are not padding

    def __len__(self) -> int:
        return len(self.ids_NL)

    def take(self, index: Tensor) -> "Tokens":
        """Those at `index` (any shape), without columns in which there is only padding."""
        lengths = self.lengths_N[index]
        longest = int(lengths.max()) if lengths.numel() else 0
        return Tokens(self.ids_NL[index][..., :longest], lengths)

    def real(self) -> Tensor:
        """bool, shape of the ids: False at padding."""
        return torch.arange(self.ids_NL.shape[-1]) < self.lengths_N[..., None]


def tokenise(data: Labelled, k: int, positions: int) -> Tokens:
    """Token ids of all sequences; of those with too many tokens the middle.

    Raises
    ------
    UserError
        If a sequence has fewer than k bases.
    """
    lengths = np.minimum(data.lengths, positions - 2 + k - 1)
    if len(lengths) and lengths.min() < k:
        i = int(np.argmin(lengths))
        raise UserError(
            f"sequence {i + 1}: found {lengths[i]} bases, wanted at least {k}, the k of the model"
        )
    starts = data.offsets[:-1] + (data.lengths - lengths) // 2
    longest = int(lengths.max()) if len(lengths) else k
    ids_NL = torch.full((len(lengths), longest - k + 3), PAD, dtype=torch.int16)
    ids_NL[:, 0] = CLS
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        codes = data.codes[starts[rows][:, None] + np.arange(length)]
        ids_NL[rows, 1 : length - k + 2] = token_ids(torch.from_numpy(codes), k).to(torch.int16)
    tokens_N = torch.from_numpy(lengths - k + 3)
    ids_NL[torch.arange(len(ids_NL)), tokens_N - 1] = SEP
    return Tokens(ids_NL, tokens_N)


def batches(tokens: Tokens, tokens_at_once: int = TOKENS_AT_ONCE) -> list[Tensor]:
    """Numbers of the sequences in batches of similar length, the longest first."""
    order = torch.argsort(tokens.lengths_N, descending=True, stable=True)
    parts, start = [], 0
    while start < len(order):
        size = max(1, tokens_at_once // int(tokens.lengths_N[order[start]]))
        parts.append(order[start : start + size])
        start += size
    return parts


def packed(tokens: Tokens, device: torch.device | str = "cpu") -> tuple[Tensor, Layout]:
    """The same tokens one behind the other, as the encoder takes them."""
    ids_T = tokens.ids_NL[tokens.real()].long().to(device)
    return ids_T, Layout.of(tuple(tokens.lengths_N.tolist()), device)


def padded(states_TD: Tensor, real_BL: Tensor) -> Tensor:
    """Packed states as [B, L, D], zeros at padding."""
    out = states_TD.new_zeros(*real_BL.shape, states_TD.shape[-1])
    out[real_BL] = states_TD
    return out


def states_of(encoder: Encoder, tokens: Tokens, layer: int | None = None) -> Tensor:
    """States [B, L, D] of a batch; of layer 0 (the embeddings) .. layers, None: the last."""
    ids_T, layout = packed(tokens, encoder.tokens.weight.device)
    seen: list[Tensor] = []
    if layer is None or layer == encoder.shape.layers:
        return padded(encoder(ids_T, layout), tokens.real().to(ids_T.device))
    # What goes into layer n is what layer n - 1 has computed.
    hook = encoder.layers[layer].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        encoder(ids_T, layout)
    finally:
        hook.remove()
    return padded(seen[0], tokens.real().to(ids_T.device))
