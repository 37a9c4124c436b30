"""Which pairs of tokens attend to each other, and what their scores lose with the distance.

Shapes: B sequences, H heads, Q queries and K keys of a sequence, S tokens of a row, E features of
a head, W tokens of a block, N blocks of a row.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cmgems.models.dropout import Dropout

SMALLEST_BLOCK = 32  # tokens: smaller products are slower than what they leave out
# Rows of so many blocks and more are cut into them: shorter ones are as fast whole.
BLOCKED_FROM = 8


class Scores(NamedTuple):
    """How distance counts in a layer's attention; by default not at all."""

    slopes_H: Tensor | None = None  # what a score loses per token of distance (ALiBi)
    reach: int | None = None  # tokens farther apart do not attend to each other

    @property
    def read_distances(self) -> bool:
        return self.slopes_H is not None or self.reach is not None

    def block_width(self, length: int) -> int:
        """W for rows of this length; 0: they stay whole."""
        if self.reach is None:
            return 0
        width = max(self.reach, SMALLEST_BLOCK)
        return width if length >= BLOCKED_FROM * width else 0

    def mask(
        self, inside: Tensor | None, position_BQ: Tensor, keys: int, dtype: torch.dtype
    ) -> Tensor | None:
        """What attention is told of scores [B, H, Q, K], the keys being the first tokens of a row.

        Without slopes bool, True where attended; with slopes the number that is added. B may be 1,
        for positions that all rows share. `inside` (bool, broadcasts to the scores) is False for
        keys that are no tokens of the sequence.
        """
        if not self.read_distances:
            return inside
        column_K = torch.arange(keys, device=position_BQ.device)
        return self._of_distances((position_BQ[:, None, :, None] - column_K).abs(), inside, dtype)

    def _of_distances(self, distance: Tensor, inside: Tensor | None, dtype: torch.dtype) -> Tensor:
        mask = inside
        if self.reach is not None:
            mask = distance <= self.reach
            if inside is not None:
                # A query of padding sees itself: with nothing to see its weights are not numbers.
                mask = mask & (inside | (distance == 0))
        if self.slopes_H is None:
            assert mask is not None
            return mask
        bias = (-self.slopes_H[:, None, None] * distance).to(dtype)
        return bias if mask is None else bias.masked_fill(~mask, -torch.inf)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, inside: Tensor | None, dropout: Dropout
    ) -> Tensor:
        """[B, H, S, E]: attention of whole rows, query i standing where key i does.

        With a short reach rows are cut into blocks of W tokens, which look at themselves and at
        the blocks beside them: work and memory grow with S and not with its square.
        """
        length = q.shape[2]
        width = self.block_width(length)
        if width:
            return self._attend_in_blocks(q, k, v, inside, dropout, width)
        position_1Q = torch.arange(length, device=q.device)[None]
        mask = self.mask(inside, position_1Q, length, q.dtype)
        return dropout.attend(q, k, v, mask)

    def _attend_in_blocks(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        inside: Tensor | None,
        dropout: Dropout,
        width: int,
    ) -> Tensor:
        batch, _, length, _ = q.shape
        padding = -length % width
        if inside is None:
            inside = torch.ones(1, 1, 1, length, dtype=torch.bool, device=q.device)
        q_blocks = F.pad(q, (0, 0, 0, padding)).unflatten(2, (-1, width)).transpose(1, 2)
        k_blocks, v_blocks = (_with_neighbors(x, width, padding) for x in (k, v))
        seen = _with_neighbors(inside.mT, width, padding)[..., 0]  # [B, N, 1, 3 W]
        number = torch.arange(3 * width, device=q.device)
        distance = (number[width : 2 * width, None] - number).abs()  # [W, 3 W]
        mask = self._of_distances(distance, seen[..., None, :], q.dtype)  # [B, N, 1 or H, W, 3 W]
        mask = mask.expand(batch, -1, -1, -1, -1)
        mixed = dropout.attend(
            q_blocks.flatten(0, 1),
            k_blocks.flatten(0, 1),
            v_blocks.flatten(0, 1),
            mask.flatten(0, 1),
        )
        rows = mixed.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2, 3)
        return rows[:, :, :length]


def _with_neighbors(x: Tensor, width: int, padding: int) -> Tensor:
    """[B, H, S, E] -> [B, N, H, 3 W, E]: each block between those beside it; zeros at the ends."""
    blocks = F.pad(x, (0, 0, width, padding + width)).unflatten(2, (-1, width))
    triples = torch.cat([blocks[:, :, :-2], blocks[:, :, 1:-1], blocks[:, :, 2:]], 3)
    return triples.transpose(1, 2)
