"""Single bases as tokens: A, T, C, G and N, one each.

Nothing overlaps, so a masked token hides exactly its base. How hard a base is says the k-mer around
it: the one that begins (k - 1) // 2 bases before it. A base has none at the ends of a sequence and
near an N.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cmgems.genome.alphabet import AMBIGUOUS, BASES
from cmgems.tokenization.base import (
    FIRST_TOKEN,
    SPECIAL_TOKENS,
    Count,
    SpanWindows,
    Tokenization,
    centered_window,
)
from cmgems.tokenization.kmers import kmer_ids


@dataclass(frozen=True)
class SingleBases(Tokenization):
    """One token per base; the id of a base is its code + 5.

    Parameters
    ----------
    k : int
        Bases of the k-mers that rank the bases in their middle.
    """

    name: ClassVar[str] = "bases"
    k: int = 6

    @property
    def token(self) -> str:
        return "base"

    @property
    def description(self) -> str:
        return f"single {self.token}s"

    @property
    def hf_config(self) -> dict[str, int | str]:
        return {"tokens": "bases"}

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return (*SPECIAL_TOKENS, *BASES, "N")

    @property
    def vocab_size(self) -> int:
        return FIRST_TOKEN + len(BASES) + 1

    @property
    def replacements(self) -> int:
        return len(BASES)

    @property
    def windows(self) -> SpanWindows:
        first, last = centered_window(self.k)  # the k-mer around a base
        # Bases whose k-mers contain the centre.
        over_center = (-last, -first)
        return SpanWindows(plain=(0, 0), wide=(first, last), search=over_center, overlap=0)

    @property
    def min_bases(self) -> int:
        return 1

    def content_tokens(self, bases: Count) -> Count:
        return bases

    def span_tokens(self, bases: Count) -> Count:
        return bases

    def max_bases(self, tokens: int) -> int:
        return tokens - 2

    def encode(self, codes: Tensor, bases: Sequence[int] | None = None) -> Tensor:
        if not codes.shape[-1]:
            raise ValueError("a sequence of 0 bases has no base")
        return codes.clamp(max=AMBIGUOUS).int() + FIRST_TOKEN

    def is_maskable(self, ids: Tensor) -> Tensor:
        return (ids >= FIRST_TOKEN) & (ids < FIRST_TOKEN + len(BASES))

    def bases_of_tokens(
        self, tokens_BK: Tensor, ids_BK: Tensor | None = None, width: int | None = None
    ) -> Tensor:
        return tokens_BK

    def count_in_tokens(self, bases_BL: Tensor, ids_BK: Tensor | None = None) -> Tensor:
        return bases_BL.long()

    def base_probabilities(
        self,
        logits_MV: Tensor,
        mask_BK: Tensor,
        wanted_BL: Tensor,
        ids_BK: Tensor | None = None,
    ) -> Tensor:
        chance_M4 = F.softmax(logits_MV[:, FIRST_TOKEN : FIRST_TOKEN + 4].float(), dim=1)
        number_BK = mask_BK.flatten().long().cumsum(0).view_as(mask_BK) - 1
        return chance_M4[number_BK[wanted_BL]]

    def kmer_ids(self, ids_BK: Tensor) -> Tensor:
        codes_BL = torch.where(self.is_maskable(ids_BK), ids_BK - FIRST_TOKEN, AMBIGUOUS)
        first, last = centered_window(self.k)
        return kmer_ids(F.pad(codes_BL.to(torch.uint8), (-first, last), value=AMBIGUOUS), self.k)

    def target_kmers(self, ids_T: Tensor, positions_M: Tensor, targets_M: Tensor) -> Tensor:
        counts_M = targets_M >= 0
        true_M = torch.where(counts_M, targets_M.int(), ids_T[positions_M])
        true_T = ids_T.scatter(0, positions_M, true_M)
        kmers_M = self.kmer_ids(true_T[None])[0, positions_M].long() - FIRST_TOKEN
        return torch.where(counts_M, kmers_M, -1)

    def unigram_counts(self, counts_V: np.ndarray) -> np.ndarray:
        return counts_V.reshape(len(BASES), -1).sum(1)
