"""What mixes the tokens of a sequence: attention, or a convolution.

Each is called with the states at the M positions that are wanted and at all T tokens, and returns
the mixed states at the former. A new one is a class here with this `forward` and a line in
`cmgems.models.encoder.build_mixer`.

Weights may have a model axis in front (`cmgems.models.stacked`): x is then [G, T, D].

Shapes: B sequences, T tokens, M wanted positions, D width, W kernel width, S tokens of a row,
G models.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmgems.models.attention import attention
from cmgems.models.dropout import Dropout
from cmgems.models.layouts import (
    Layout,
    PaddedLayout,
    equal_lengths,
    padded_slots,
    split,
    unpack_to_padded,
)
from cmgems.models.linear import Linear
from cmgems.models.positions import AttentionPositions
from cmgems.models.scores import Scores


class SelfAttention(nn.Module):
    """Each of M tokens asks the T tokens of the batch that belong to its sequence, or those of
    them that are at most `reach` tokens away."""

    def __init__(self, width: int, heads: int, biases: bool, reach: int | None = None):
        super().__init__()
        self.num_heads = heads
        self.reach = reach
        self.query = Linear(width, width, biases)
        self.key_value = Linear(width, 2 * width, biases)
        self.output = Linear(width, width, biases)

    def forward(
        self,
        x_MD: Tensor,
        x_TD: Tensor,
        layout: Layout,
        at_M: Tensor | None,
        positions: AttentionPositions,
        dropout: Dropout,
    ) -> Tensor:
        query, key, value = positions.rotate(
            self.query(x_MD), self.key_value(x_TD), at_M, self.num_heads
        )
        scores = Scores(positions.slopes_H, self.reach)
        mixed = attention(query, key, value, layout, at_M, self.num_heads, dropout, scores)
        return self.output(mixed)


class Convolution(nn.Module):
    """GELU of a convolution over W tokens that lie `dilation` apart, within each sequence.

    It knows where tokens are by their distance, so it needs no positions. Its weights are a matrix
    [D, D W] from D features of W tokens to D features, so that they are trained as other matrices.
    """

    def __init__(self, width: int, kernel: int, dilation: int, biases: bool):
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        self.matrix = Linear(kernel * width, width, biases)

    def forward(
        self,
        x_MD: Tensor,
        x_TD: Tensor,
        layout: Layout,
        at_M: Tensor | None,
        positions: AttentionPositions,
        dropout: Dropout,
    ) -> Tensor:
        mixed_TD = F.gelu(self._over_sequences(x_TD, layout))
        return mixed_TD if at_M is None else mixed_TD[..., at_M, :]

    def _over_sequences(self, x_TD: Tensor, layout: Layout) -> Tensor:
        if isinstance(layout, PaddedLayout):
            return self._over_padded(x_TD, layout)
        if layout.cu_seqlens is None:
            groups = equal_lengths(layout.seqlens)
            parts = split(x_TD, [length * count for length, count in groups])
            mixed = [
                self._over_rows(part.unflatten(0, (count, length))).flatten(0, 1)
                for part, (length, count) in zip(parts, groups, strict=True)
            ]
            return torch.cat(mixed) if len(mixed) > 1 else mixed[0]
        starts, longest = layout.cu_seqlens, layout.max_seqlen
        column_S = torch.arange(longest, device=x_TD.device)
        inside_BS = column_S < starts.diff()[:, None]
        x_BSD = unpack_to_padded(x_TD, starts, column_S) * inside_BS[..., None]
        slots_T = padded_slots(starts, len(x_TD), longest)
        return self._over_rows(x_BSD).flatten(0, 1).index_select(0, slots_T)

    def _over_padded(self, x_TD: Tensor, layout: PaddedLayout) -> Tensor:
        rows = x_TD.unflatten(-2, (layout.num_rows, layout.row_length))
        if layout.attention_mask is not None:
            rows = rows * layout.attention_mask[..., None]
        return self._over_rows(rows).flatten(-3, -2)

    def _over_rows(self, x_BSD: Tensor) -> Tensor:
        """[B, S, D], with zeros beyond the ends; or [G, B, S, D]."""
        weight, bias = self.matrix.weight, self.matrix.bias
        if weight.ndim == 2:
            return self._convolve(x_BSD, weight, bias)
        # One model after the other: one convolution with a group of features per model takes
        # oneDNN several times as long.
        models = len(weight)
        rows = x_BSD.expand(models, *x_BSD.shape[-3:])
        biases: Iterable[Tensor | None] = [None] * models if bias is None else bias
        return torch.stack([*map(self._convolve, rows, weight, biases)])

    def _convolve(self, x_BSD: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """[B, S, D] -> [B, S, D], with the weights of one model."""
        kernel = weight.to(x_BSD.dtype).unflatten(-1, (-1, 1, self.kernel))  # [D, D, 1, W]
        bias = None if bias is None else bias.to(x_BSD.dtype)
        # In two dimensions, of which the first has one row: the states are then in the order that
        # oneDNN and cuDNN take as it is (channels last). Of one dimension they make copies.
        image = x_BSD.transpose(1, 2).unsqueeze(2)  # [B, D, 1, S]
        reach = self.dilation * (self.kernel // 2)
        mixed = F.conv2d(image, kernel, bias, 1, (0, reach), (1, self.dilation))
        return mixed.squeeze(2).transpose(1, 2)
