"""Non-overlapping k-mers as tokens: the rule of Nucleotide Transformer.

A stretch of known bases is cut into k-mers from its left, and what is left at its right end, fewer
than k bases, into single bases. Each unknown base is one token N, behind which cutting begins anew:
for k = 6 `ACGTACGTNACGTACG` becomes ACGTAC G T N ACGTAC G. Source: Dalla-Torre et al., Nature
Methods 2024, and their `NucleotidesKmersTokenizer`.

Token ids are the special ones, then the 4**k k-mers in base order A T C G (AAAAAA = 5, AAAAAT = 6),
then A, T, C, G and N. (The published vocabulary has the same order behind special tokens of its
own.) The *index* of a k-mer is its id - 5, as everywhere. Single bases have no k-mer, so no rank.
"""

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cmgems.genome.alphabet import BASES
from cmgems.tokenization.adjacent import AdjacentTokens
from cmgems.tokenization.base import FIRST_TOKEN, SPECIAL_TOKENS, UNK, Count, SpanWindows
from cmgems.utils.kernels import kernel


@dataclass(frozen=True)
class NonOverlappingKmers(AdjacentTokens):
    """k-mers side by side, from the left of each stretch of known bases.

    Parameters
    ----------
    k : int
        Bases of a token.
    """

    name: ClassVar[str] = "nonoverlapping"
    k: int = 6

    @property
    def token(self) -> str:
        return f"{self.k}-mer"

    @property
    def description(self) -> str:
        return f"non-overlapping {self.token}s"

    @property
    def hf_config(self) -> dict[str, int | str]:
        return {"tokens": self.name, "kmer": self.k}

    @property
    def vocabulary(self) -> tuple[str, ...]:
        kmers = ("".join(kmer) for kmer in product(BASES, repeat=self.k))
        return (*SPECIAL_TOKENS, *kmers, *BASES, "N")

    @property
    def vocab_size(self) -> int:
        return self._first_base + len(BASES) + 1

    @property
    def _first_base(self) -> int:
        """The id of the single base A."""
        return FIRST_TOKEN + 4**self.k

    @property
    def replacements(self) -> int:
        return 4**self.k + len(BASES)

    @property
    def windows(self) -> SpanWindows:
        # A token hides its own k bases, which rank it: plain and wide are the same. The smallest
        # reach that leaves `genemask` a choice is the token on either side.
        return SpanWindows(plain=(0, 0), wide=(0, 0), search=(-1, 1), overlap=0)

    def content_tokens(self, bases: Count) -> Count:
        return bases // self.k + bases % self.k

    def max_tokens(self, bases: int) -> int:
        # Of lengths up to a multiple of k the one before it has most: k - 1 single bases at the end
        before = (bases + 1) // self.k * self.k - 1
        return max(self.num_tokens(bases), self.num_tokens(max(before, 0)))

    def span_tokens(self, bases: Count) -> Count:
        return (bases + self.k - 1) // self.k

    def max_bases(self, tokens: int) -> int:
        return (tokens - 2) * self.k

    def encode_rows(self, codes_BL: np.ndarray, bases_B: np.ndarray) -> list[np.ndarray]:
        ids_BL = np.empty(codes_BL.shape, np.int32)
        tokens_B = np.empty(len(codes_BL), np.int64)
        _encode(codes_BL, bases_B, self.k, ids_BL, tokens_B)
        return [ids[:tokens] for ids, tokens in zip(ids_BL, tokens_B.tolist(), strict=True)]

    def is_maskable(self, ids: Tensor) -> Tensor:
        return (ids >= FIRST_TOKEN) & (ids < self.vocab_size - 1)

    def base_probabilities(
        self,
        logits_MV: Tensor,
        mask_BK: Tensor,
        wanted_BL: Tensor,
        ids_BK: Tensor | None = None,
    ) -> Tensor:
        """Which tokens are k-mers and which single bases follows from the lengths of the stretches,
        so the distribution of a k-mer is over the k-mers, summed over its other bases, and that of
        a single base over A, T, C and G."""
        if ids_BK is None:
            raise ValueError("which bases lie under a token depends on its id")
        k, first_base = self.k, self._first_base
        kmers_MV = F.softmax(logits_MV[:, FIRST_TOKEN:first_base].float(), dim=1)
        bases_M4 = F.softmax(logits_MV[:, first_base : first_base + len(BASES)].float(), dim=1)
        marginals = [kmers_MV.view(-1, 4**j, 4, 4 ** (k - 1 - j)).sum((1, 3)) for j in range(k)]
        chance_MK4 = torch.stack([*marginals, bases_M4], dim=1)  # the last one: a single base
        number_BK = mask_BK.flatten().long().cumsum(0).view_as(mask_BK) - 1
        token_BL = self.token_of_bases(ids_BK, wanted_BL.shape[1])
        row_H, base_H = wanted_BL.nonzero(as_tuple=True)
        token_H = token_BL[row_H, base_H]
        lengths_BK = self.table("token_bases", ids_BK.device)[ids_BK.long()]
        starts_BK = lengths_BK.cumsum(1) - lengths_BK
        offset_H = base_H - starts_BK[row_H, token_H]
        offset_H = torch.where(lengths_BK[row_H, token_H] == 1, k, offset_H)
        return chance_MK4[number_BK[row_H, token_H], offset_H]

    def kmer_ids(self, ids_BK: Tensor) -> Tensor:
        return torch.where(ids_BK < self._first_base, ids_BK, UNK)

    def target_kmers(self, ids_T: Tensor, positions_M: Tensor, targets_M: Tensor) -> Tensor:
        return torch.where(targets_M < self._first_base, targets_M - FIRST_TOKEN, -1)

    def unigram_counts(self, counts_V: np.ndarray) -> np.ndarray:
        """Those of the k-mers wherever they begin; single bases are too few to count."""
        return counts_V


@kernel
def _encode(
    codes_BL: np.ndarray, bases_B: np.ndarray, k: int, ids_BL: np.ndarray, tokens_B: np.ndarray
) -> None:
    """Ids of the first `bases_B` codes of each row, and how many they are."""
    first_base = FIRST_TOKEN + (1 << (2 * k))
    for b in range(len(codes_BL)):
        codes, ids, bases = codes_BL[b], ids_BL[b], bases_B[b]
        count = start = 0
        while start < bases:
            size = index = 0
            while size < k and start + size < bases and codes[start + size] <= 3:
                index = (index << 2) + codes[start + size]
                size += 1
            if size == k:
                ids[count] = FIRST_TOKEN + index
            else:
                size = 1
                ids[count] = first_base + min(codes[start], 4)
            count += 1
            start += size
        tokens_B[b] = count
