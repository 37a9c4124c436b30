"""What an encoder makes of tokens: its hidden states, and in which arithmetic."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cmgems.models.dropout import Dropout
from cmgems.models.encoder import Encoder
from cmgems.models.layouts import PaddedLayout
from cmgems.tasks.tokens import Tokens


def compute_hidden_states(
    encoder: Encoder,
    tokens: Tokens,
    places: int | None = None,
    dropout: Dropout | None = None,
) -> Tensor:
    """Hidden states [B, P, D] of the first `places` tokens of a batch, or of all.

    What is at padding has no meaning.

    Parameters
    ----------
    encoder : one, or G stacked ones (`cmgems.models.stacked.stack`) for hidden states [G, B, P, D]
    tokens : [B, L] or, for stacked encoders, [G, B, L]
    places : tokens of each sequence whose hidden states are wanted; None: all
    dropout : None: nothing is dropped
    """
    ids, layout = _padded_batch(encoder, tokens)
    at_M = None if places is None else layout.first_tokens(places)
    hidden_states = encoder(ids, layout, at_M, dropout=dropout or Dropout(0.0))
    return hidden_states.unflatten(-2, (layout.num_rows, -1))


def compute_layers(encoder: Encoder, tokens: Tokens, layers: Sequence[int]) -> list[Tensor]:
    """Hidden states [B, L, D] of all tokens after each of `layers`, by one pass.

    Parameters
    ----------
    encoder : one
    tokens : [B, L]
    layers : 0 the embeddings, 1 the first layer, ...
    """
    ids, layout = _padded_batch(encoder, tokens)
    states: list[Tensor] = []
    last = encoder(ids, layout, num_layers=max(layers), dropout=Dropout(0.0), earlier=states)
    states.append(last)
    return [states[layer].unflatten(-2, (layout.num_rows, -1)) for layer in layers]


def _padded_batch(encoder: Encoder, tokens: Tokens) -> tuple[Tensor, PaddedLayout]:
    """Token ids [..., B L] on the encoder's device, and where they belong."""
    device, mask = encoder.tokens.weight.device, tokens.attention_mask()
    if not encoder.config.sep_token:  # the last token is to this encoder what padding is
        mask = mask & F.pad(mask, (0, 1))[..., 1:]
    layout = PaddedLayout.of(mask.to(device), padded=not bool(mask.all()))
    return tokens.ids_NL.to(device).long().flatten(-2), layout


def inner(attention_mask: Tensor) -> Tensor:
    """bool, shape of the mask: the tokens between [CLS] and [SEP]."""
    behind = F.pad(attention_mask, (0, 1), value=False)[..., 1:]  # the next token is real too
    return behind & F.pad(attention_mask, (1, 0), value=False)[..., :-1]


def arithmetic(device: torch.device, bf16: bool) -> torch.autocast:
    """Matrix products in bfloat16, sums and weights in float32; or everything in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)
