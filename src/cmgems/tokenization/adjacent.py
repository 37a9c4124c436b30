"""Tokens side by side: each base lies under one token, and a token's id says how many bases it has.

A masked token hides all its bases and nothing else. How many tokens a sequence has depends on what
it consists of, so these tokenizations encode on the host, in the loader, which sends the ids along.
Rows are padded with [PAD], which has no bases; special tokens have none either, but for [UNK]: it
stands for one unknown base where the vocabulary has no N.
"""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cmgems.tokenization.base import FIRST_TOKEN, PAD, UNK, Tokenization


class AdjacentTokens(Tokenization):
    """The questions that follow from the number of bases of each token."""

    on_host: ClassVar[bool] = True

    @abstractmethod
    def encode_rows(self, codes_BL: np.ndarray, bases_B: np.ndarray) -> list[np.ndarray]:
        """int32 [K] for each row: the ids of its first `bases_B[b]` base codes (uint8)."""

    @cached_property
    def token_bases(self) -> Tensor:
        """int64 [V]: bases of each token of the vocabulary."""
        lengths = [len(token) for token in self.vocabulary]
        lengths[:FIRST_TOKEN] = [0] * FIRST_TOKEN
        lengths[UNK] = 1
        return torch.tensor(lengths)

    @property
    def tables(self) -> dict[str, Tensor]:
        """The constant tensors that `table` gives, on the host."""
        return {"token_bases": self.token_bases}

    @torch.compiler.assume_constant_result
    def table(self, name: str, device: torch.device) -> Tensor:
        """One of the `tables` on a device: copied there once, and a constant to torch.compile."""
        if (name, device) not in self._moved:
            self._moved[name, device] = self.tables[name].to(device)
        return self._moved[name, device]

    @cached_property
    def _moved(self) -> dict[tuple[str, torch.device], Tensor]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """Without what is on a device: other processes make their own copies."""
        return {name: value for name, value in vars(self).items() if name != "_moved"}

    @property
    def min_bases(self) -> int:
        return 1

    def encode(self, codes: Tensor, bases: Sequence[int] | None = None) -> Tensor:
        if not codes.shape[-1]:
            raise ValueError("a sequence of 0 bases has no token")
        codes_BL = np.ascontiguousarray(codes.cpu().numpy()).reshape(-1, codes.shape[-1])
        lengths = [codes_BL.shape[1]] * len(codes_BL) if bases is None else bases
        rows = self.encode_rows(codes_BL, np.array(lengths, np.int64))
        ids_BK = np.full((len(rows), max(map(len, rows), default=0)), PAD, np.int32)
        for row, ids in zip(ids_BK, rows, strict=True):
            row[: len(ids)] = ids
        return torch.from_numpy(ids_BK).view(*codes.shape[:-1], -1).to(codes.device)

    def count_tokens(self, ids_BK: Tensor, bases: Sequence[int]) -> tuple[int, ...]:
        return tuple((ids_BK != PAD).sum(1).tolist())

    def bases_of_tokens(
        self, tokens_BK: Tensor, ids_BK: Tensor | None = None, width: int | None = None
    ) -> Tensor:
        token_BL = self.token_of_bases(_given(ids_BK), width)
        return F.pad(tokens_BK, (0, 1)).gather(1, token_BL)

    def count_in_tokens(self, bases_BL: Tensor, ids_BK: Tensor | None = None) -> Tensor:
        ids_BK = _given(ids_BK)
        token_BL = self.token_of_bases(ids_BK, bases_BL.shape[1])
        counts = token_BL.new_zeros(len(ids_BK), ids_BK.shape[1] + 1)
        return counts.scatter_add_(1, token_BL, bases_BL.long())[:, :-1]

    def token_of_bases(self, ids_BK: Tensor, width: int | None) -> Tensor:
        """int64 [B, L]: the number of the token over each base; K behind the last one."""
        ends_BK = self.table("token_bases", ids_BK.device)[ids_BK.long()].cumsum(1)
        width = int(ends_BK[:, -1].max()) if width is None else width
        base_BL = torch.arange(width, device=ids_BK.device).expand(len(ids_BK), -1)
        return torch.searchsorted(ends_BK, base_BL.contiguous(), right=True)


def _given(ids_BK: Tensor | None) -> Tensor:
    if ids_BK is None:
        raise ValueError("which bases lie under tokens that differ in length depends on their ids")
    return ids_BK
