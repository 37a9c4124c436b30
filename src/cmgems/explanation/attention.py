"""Attention between bases: how much of what each head of each layer mixes for a base comes from
which other base.

Tokens attend to tokens. The weight that a token has is shared out evenly over the bases under it,
and a base has the mean of the tokens over it; with single bases as tokens nothing changes. What a
row lacks to 1 goes to [CLS], [SEP] and bases outside the map. The sequence is as it is, on its own
strand, no base is hidden. Attention says where states are mixed from, not what decides a
prediction: effects of substitutions do (Jain and Wallace, NAACL 2019).

Shapes: A layers with attention, H heads, T tokens with [CLS] and [SEP], K tokens without, L bases,
S bases of the map.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cmgems.errors import UserError
from cmgems.models.dropout import Dropout
from cmgems.models.encoder import Encoder
from cmgems.models.layouts import SequenceLayout
from cmgems.tokenization import Tokenization
from cmgems.tokenization.base import CLS, SEP


def check_attention(encoder: Encoder) -> None:
    """Refuse models that have none.

    Raises
    ------
    UserError
    """
    layers = range(encoder.config.num_layers)
    if all(encoder.config.conv_dilation(layer) is not None for layer in layers):
        raise UserError("--attention: found convolutions alone, wanted layers with attention")


@torch.no_grad()
def attention_maps(
    encoder: Encoder, tokenization: Tokenization, codes_L: np.ndarray, span: int
) -> np.ndarray:
    """float32 [A, H, S, S]: of the base of the row to that of the column, in the middle S bases.

    S is `span`, or L where that is less. Of more tokens than the encoder has positions those in the
    middle are read; a base under none of them is nan as a row and 0 as a column.
    """
    device = encoder.tokens.weight.device
    ids_1K = tokenization.encode(torch.from_numpy(codes_L[None])).long()
    count, ends = ids_1K.shape[1], 1 + int(encoder.config.sep_token)
    each_KK = torch.eye(count, dtype=torch.bool)
    under_KL = tokenization.bases_of_tokens(each_KK, ids_1K.expand(count, -1), len(codes_L))
    start = max(count + ends - encoder.config.max_position_embeddings, 0) // 2
    read = slice(start, start + encoder.config.max_position_embeddings - ends)
    ids_T = F.pad(F.pad(ids_1K[0, read], (1, 0), value=CLS), (0, ends - 1), value=SEP)
    recorder = _Recorder(len(ids_T))
    encoder(ids_T.to(device), SequenceLayout.of((len(ids_T),), device), dropout=recorder)
    tokens_AHTT = torch.stack(recorder.weights)
    under_KL = under_KL[read].to(tokens_AHTT.dtype)
    first = max(len(codes_L) - span, 0) // 2
    under_KS = under_KL[:, first : first + span]
    shared_KS = under_KS / under_KL.sum(1, keepdim=True)
    mean_SK = (under_KS / under_KS.sum(0)).T
    inner = slice(1, 1 + len(under_KL))
    return (mean_SK @ tokens_AHTT[..., inner, inner] @ shared_KS).float().numpy()


class _Recorder(Dropout):
    """Keeps the attention weights of one sequence of T tokens, a layer after the other."""

    def __init__(self, num_tokens: int) -> None:
        super().__init__(0.0)
        self.num_tokens = num_tokens
        self.weights: list[Tensor] = []  # [H, T, T] each, on the CPU

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        scores = (q / math.sqrt(q.shape[-1])) @ k.mT
        if mask is not None and mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, -math.inf)
        elif mask is not None:
            scores = scores + mask
        weights = F.softmax(scores, -1)
        self.weights.append(self._whole(weights.cpu()))
        return weights @ v

    def _whole(self, weights: Tensor) -> Tensor:
        """[H, T, T] from one row, or from blocks of a row that look at those beside them."""
        blocks, heads, width, columns = weights.shape
        if width == columns:
            return weights[0]
        # Block n has queries from n * width on; its keys begin a block before.
        whole = weights.new_zeros(heads, blocks * width, (blocks + 2) * width)
        for number, block in enumerate(weights):
            start = number * width
            whole[:, start : start + width, start : start + columns] = block
        return whole[:, : self.num_tokens, width : width + self.num_tokens]
