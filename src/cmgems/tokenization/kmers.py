"""Overlapping k-mers as tokens: DNABERT's vocabulary.

Token ids are the special ones, then the 4**k k-mers in base order A T C G (AAAAAA = 5, AAAAAT = 6).
A k-mer with an ambiguous base is [UNK]. The *index* of a k-mer is its id - 5: 0 .. 4**k - 1, the
order of counts and rank tables.

Each base lies under up to k tokens, so a masked token can be read off its neighbors: a base is
hidden only if every k-mer over it is masked, and m masked k-mers in a row hide m - k + 1 bases.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cmgems.genome.alphabet import BASES
from cmgems.tokenization.base import (
    FIRST_TOKEN,
    SPECIAL_TOKENS,
    UNK,
    Count,
    SpanWindows,
    Tokenization,
    centered_window,
)
from cmgems.utils.kernels import as_numpy, kernel, use_cpu_kernels

K_VALUES = (3, 4, 5, 6)  # DNABERT's


@dataclass(frozen=True)
class OverlappingKmers(Tokenization):
    """DNABERT's tokens: the word of k bases that begins at a base, for all but the last k - 1.

    Parameters
    ----------
    k : int
        Bases of a token.
    """

    name: ClassVar[str] = "kmers"
    k: int = 6

    @property
    def token(self) -> str:
        return f"{self.k}-mer"

    @property
    def description(self) -> str:
        return f"overlapping {self.token}s"

    @property
    def hf_config(self) -> dict[str, int | str]:
        return {"kmer": self.k}

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Equal to DNABERT's `vocab.txt` for this k."""
        return (*SPECIAL_TOKENS, *("".join(kmer) for kmer in product(BASES, repeat=self.k)))

    @property
    def vocab_size(self) -> int:
        return FIRST_TOKEN + 4**self.k

    @property
    def replacements(self) -> int:
        return 4**self.k

    @property
    def windows(self) -> SpanWindows:
        # k tokens in a row have one base in common, 2k - 1 are all that overlap the middle one.
        mask_list = centered_window(self.k)
        return SpanWindows(mask_list, (1 - self.k, self.k - 1), mask_list, overlap=self.k - 1)

    @property
    def min_bases(self) -> int:
        return self.k

    def content_tokens(self, bases: Count) -> Count:
        return bases - self.k + 1

    def span_tokens(self, bases: Count) -> Count:
        return bases + self.k - 1

    def max_bases(self, tokens: int) -> int:
        return tokens - 2 + self.k - 1

    def encode(self, codes: Tensor, bases: Sequence[int] | None = None) -> Tensor:
        if codes.shape[-1] < self.k:
            raise ValueError(f"a sequence of {codes.shape[-1]} bases has no {self.token}")
        return kmer_ids(codes, self.k)

    def is_maskable(self, ids: Tensor) -> Tensor:
        return ids >= FIRST_TOKEN

    def bases_of_tokens(
        self, tokens_BK: Tensor, ids_BK: Tensor | None = None, width: int | None = None
    ) -> Tensor:
        rows, tokens = tokens_BK.shape
        bases_BL = tokens_BK.new_zeros(rows, tokens + self.k - 1)
        for offset in range(self.k):
            bases_BL[:, offset : offset + tokens] |= tokens_BK
        return bases_BL

    def count_in_tokens(self, bases_BL: Tensor, ids_BK: Tensor | None = None) -> Tensor:
        if bases_BL.shape[1] < self.k:
            return bases_BL.new_zeros(len(bases_BL), 0, dtype=torch.int64)
        return bases_BL.unfold(1, self.k, 1).sum(2)

    def base_probabilities(
        self,
        logits_MV: Tensor,
        mask_BK: Tensor,
        wanted_BL: Tensor,
        ids_BK: Tensor | None = None,
    ) -> Tensor:
        """The distribution of each masked k-mer over a base is summed over its other bases; the
        k-mers over a base are then averaged, which is a distribution again."""
        k = self.k
        kmers_MV = F.softmax(logits_MV[:, FIRST_TOKEN : self.vocab_size].float(), dim=1)
        marginal_Mk4 = torch.stack(
            [kmers_MV.view(-1, 4**j, 4, 4 ** (k - 1 - j)).sum((1, 3)) for j in range(k)], dim=1
        )
        row_H, base_H = wanted_BL.nonzero(as_tuple=True)
        number_BK = mask_BK.flatten().long().cumsum(0).view_as(mask_BK) - 1
        offset_k = torch.arange(k, device=base_H.device)
        token_Hk = base_H[:, None] - offset_k
        inside_Hk = (token_Hk >= 0) & (token_Hk < mask_BK.shape[1])
        token_Hk = token_Hk.clamp(0, mask_BK.shape[1] - 1)
        inside_Hk &= mask_BK[row_H[:, None], token_Hk]
        guess_Hk4 = marginal_Mk4[number_BK[row_H[:, None], token_Hk].clamp(min=0), offset_k]
        weight_Hk1 = inside_Hk[:, :, None] / inside_Hk.sum(1)[:, None, None]
        return (guess_Hk4 * weight_Hk1).sum(1)

    def kmer_ids(self, ids_BK: Tensor) -> Tensor:
        return ids_BK

    def target_kmers(self, ids_T: Tensor, positions_M: Tensor, targets_M: Tensor) -> Tensor:
        return targets_M - FIRST_TOKEN

    def unigram_counts(self, counts_V: np.ndarray) -> np.ndarray:
        return counts_V

    def codes_of_tokens(self) -> Tensor:
        """int64 [k, 4**k]: the base at each offset of each k-mer."""
        index_V = torch.arange(4**self.k)
        return torch.stack([index_V >> 2 * (self.k - 1 - i) & 3 for i in range(self.k)])


def kmer_ids(codes: Tensor, k: int) -> Tensor:
    """Ids of the overlapping k-mers of base codes, on the codes' own device.

    Parameters
    ----------
    codes : uint8 tensor [..., L], L at least k - 1
    k : int

    Returns
    -------
    int32 tensor [..., L - k + 1]; [UNK] where one of the k bases is ambiguous.
    """
    tokens = codes.shape[-1] - k + 1
    if use_cpu_kernels(codes):
        rows = prod(codes.shape[:-1])
        ids_BK = torch.empty(rows, tokens, dtype=torch.int32)
        _kmer_ids(as_numpy(codes.reshape(rows, codes.shape[-1])), k, as_numpy(ids_BK))
        return ids_BK.view(*codes.shape[:-1], tokens)
    base, ambiguous = (codes & 3).int(), (codes > 3).int() * 4**k
    index = torch.zeros_like(base[..., :tokens])
    for offset in range(k):
        part = slice(offset, offset + tokens)
        # An ambiguous base lifts the sum to 4**k or more, whatever the other bases are.
        index += (base[..., part] << 2 * (k - 1 - offset)) + ambiguous[..., part]
    return torch.where(index < 4**k, index + FIRST_TOKEN, UNK)


@kernel
def _kmer_ids(codes_BL: np.ndarray, k: int, ids_BK: np.ndarray) -> None:
    tokens = ids_BK.shape[1]
    limit = np.int32(1) << np.int32(2 * k)
    for b in range(len(codes_BL)):
        codes, ids = codes_BL[b], ids_BK[b]
        for t in range(tokens):
            ids[t] = 0
        for offset in range(k):
            shift = np.int32(2 * (k - 1 - offset))
            for t in range(tokens):
                code = np.int32(codes[t + offset])
                # An ambiguous base lifts the sum beyond every k-mer, whatever the others are.
                ids[t] += ((code & np.int32(3)) << shift) + (code >> np.int32(2)) * limit
        for t in range(tokens):
            ids[t] = ids[t] + np.int32(FIRST_TOKEN) if ids[t] < limit else np.int32(UNK)
