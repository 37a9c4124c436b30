"""Byte-pair encoding: tokens of one to some tens of bases, merged by frequency, as in DNABERT-2.

A stretch of known bases is cut into pieces of 10,000 bases, and a piece is encoded on its own. Each
unknown base is one [UNK]. Ids are the special tokens, then the vocabulary in the order of its file:
A, C, G and T among them, so that any DNA can be written. Source: Zhou et al., ICLR 2024.

How hard a token is says the n-gram that begins there: of those of 2 to 5 tokens that are ranked
(`cmgems.difficulty.ngrams`) the best-ranked one; or, behind all of these, the token alone. It is
also what a wide window masks. In tables of ranks the n-grams come first, in the order of their keys
(`cmgems.utils.ngram_keys`), then the tokens in the order of their ids.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models
from torch import Tensor

from cmgems.genome.alphabet import BASES
from cmgems.tokenization.adjacent import AdjacentTokens
from cmgems.tokenization.base import (
    FIRST_TOKEN,
    SPECIAL_TOKENS,
    UNK,
    Count,
    HiddenBaseScores,
    SpanWindows,
)
from cmgems.utils.ngram_keys import MAX_TOKENS, key_bits, max_tokens

PIECE = 10_000  # bases that are encoded together
MAX_VOCABULARY = 1 << 15  # tokens are kept as int16
_LETTERS = np.frombuffer(BASES.encode(), np.uint8)
_UNRANKED = np.iinfo(np.int32).max


class Ngrams(NamedTuple):
    """The n-grams that are units of masking: M of them."""

    keys: np.ndarray  # int64 [M], ascending
    rank: np.ndarray  # int32 [M], 1 = first to mask


@dataclass(frozen=True, repr=False)
class BytePairs(AdjacentTokens):
    """Byte pairs with a vocabulary of their own.

    Parameters
    ----------
    tokens : tuple of str
        The vocabulary without special tokens.
    merges : tuple of pairs of str
        In the order in which they were learned.
    k : int
        Hidden bases in a row up to which the metrics of hidden bases count.
    source : str
        The file that it was read from.
    ngrams : Ngrams, optional
        Without them each token is a unit of its own.
    """

    name: ClassVar[str] = "bpe"
    tokens: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]
    k: int = 6
    source: str = field(default="", compare=False)
    ngrams: Ngrams | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        units = "" if self.ngrams is None else f", {_digest(self.ngrams.keys.tobytes())}"
        return f"BytePairs({self.digest}, k={self.k}{units})"

    @cached_property
    def digest(self) -> str:
        """Of the vocabulary and the merges."""
        return _digest(repr((self.tokens, self.merges)).encode())

    @property
    def token(self) -> str:
        return "byte pair"

    @property
    def description(self) -> str:
        return f"{self.vocab_size:,} byte pairs"

    @property
    def hf_config(self) -> dict[str, int | str]:
        return {"tokens": self.name}

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return (*SPECIAL_TOKENS, *self.tokens)

    @property
    def vocab_size(self) -> int:
        return FIRST_TOKEN + len(self.tokens)

    @property
    def replacements(self) -> int:
        return len(self.tokens)

    @property
    def windows(self) -> SpanWindows:
        # The n-grams that can hold the centre begin up to four tokens before it.
        return SpanWindows((0, 0), wide=(0, MAX_TOKENS - 1), search=(1 - MAX_TOKENS, 0), overlap=0)

    @cached_property
    def model(self) -> Tokenizer:
        """The encoder of pieces of known bases."""
        ids = {token: id_ for id_, token in enumerate(self.vocabulary)}
        return Tokenizer(models.BPE(vocab=ids, merges=list(self.merges), unk_token="[UNK]"))

    @property
    def tables(self) -> dict[str, Tensor]:
        units = {} if self.ngrams is None else self.ngrams._asdict()
        units = {name: torch.from_numpy(part) for name, part in units.items()}
        return {**super().tables, "codes": self._codes, **units}

    @cached_property
    def _thousandths(self) -> int:
        """Thousandths of bases per token, in random DNA: what is expected of a sequence."""
        codes = np.random.default_rng(0).integers(0, 4, (1, 100_000)).astype(np.uint8)
        (ids,) = self.encode_rows(codes, np.array([100_000]))
        return 1000 * 100_000 // len(ids)

    def content_tokens(self, bases: Count) -> Count:
        """As many as are expected: the true number depends on the sequence."""
        return (bases * 1000 + self._thousandths - 1) // self._thousandths

    def max_tokens(self, bases: int) -> int:
        return bases + 2

    def span_tokens(self, bases: Count) -> Count:
        return self.content_tokens(bases)

    def max_bases(self, tokens: int) -> int:
        return (tokens - 2) * int(self.token_bases.max())

    def encode_rows(self, codes_BL: np.ndarray, bases_B: np.ndarray) -> list[np.ndarray]:
        texts: list[str] = []
        pieces_B = []
        for codes, bases in zip(codes_BL, bases_B.tolist(), strict=True):
            pieces = known_pieces(codes[:bases])
            pieces_B.append(pieces)
            texts += (letters_of(codes[start:end]) for start, end in pieces)
        encoded = iter(self.encode_texts(texts))
        return [
            _join(pieces, encoded, bases)
            for pieces, bases in zip(pieces_B, bases_B.tolist(), strict=True)
        ]

    def encode_texts(self, texts: Sequence[str]) -> list[np.ndarray]:
        """int32 [K] for each text of A, C, G and T."""
        return [np.array(e.ids, np.int32) for e in self.model.encode_batch_fast(texts)]

    def is_maskable(self, ids: Tensor) -> Tensor:
        return ids >= FIRST_TOKEN

    @cached_property
    def _codes(self) -> Tensor:
        """int64 [V, L]: the base at each offset of each token; 4 behind its end."""
        codes = np.full((self.vocab_size, int(self.token_bases.max())), 4, np.int64)
        for id_, token in enumerate(self.tokens, FIRST_TOKEN):
            codes[id_, : len(token)] = [BASES.index(base) for base in token]
        return torch.from_numpy(codes)

    def base_probabilities(
        self,
        logits_MV: Tensor,
        mask_BK: Tensor,
        wanted_BL: Tensor,
        ids_BK: Tensor | None = None,
    ) -> Tensor:
        """Of a base at some offset of its token: the probabilities of all tokens that reach so far,
        by their base there. Shorter tokens say nothing of it, their probability is shared out."""
        number_H, _, offset_H = self._under(mask_BK, wanted_BL, ids_BK)
        chance_MV = F.softmax(logits_MV[:, FIRST_TOKEN : self.vocab_size].float(), dim=1)
        codes_VL = self.table("codes", logits_MV.device)[FIRST_TOKEN:]
        found_H4 = chance_MV.new_empty(len(number_H), 4)
        for offset in offset_H.unique().tolist():
            here_H = offset_H == offset
            by_code_V5 = F.one_hot(codes_VL[:, offset], 5).float()
            by_code_H5 = chance_MV[number_H[here_H]] @ by_code_V5
            found_H4[here_H] = by_code_H5[:, :4] + by_code_H5[:, 4:] / 4
        return found_H4

    def score_bases(
        self,
        logits_MV: Tensor,
        mask_BK: Tensor,
        wanted_BL: Tensor,
        codes_BL: Tensor,
        ids_BK: Tensor | None = None,
    ) -> HiddenBaseScores:
        """-log2 P(token) is shared out evenly over the token's bases, and a base counts as right if
        the token is. So the length of the token, which the model is not told, is paid for as well:
        a distribution over bases of a known number of tokens would cost less."""
        number_H, token_H, _ = self._under(mask_BK, wanted_BL, ids_BK)
        known_MV = logits_MV[:, FIRST_TOKEN : self.vocab_size].double()
        index_H = token_H - FIRST_TOKEN
        nats_H = -F.log_softmax(known_MV, dim=1)[number_H, index_H]
        bases_H = self.table("token_bases", token_H.device)[token_H]
        correct_H = known_MV.argmax(1)[number_H] == index_H
        return HiddenBaseScores(nats_H / bases_H / np.log(2), correct_H)

    def _under(
        self, mask_BK: Tensor, wanted_BL: Tensor, ids_BK: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """int64 [H] each: number of the prediction for a wanted base, its true token, and where in
        that the base is."""
        if ids_BK is None:
            raise ValueError("which bases lie under a token depends on its id")
        number_BK = mask_BK.flatten().long().cumsum(0).view_as(mask_BK) - 1
        token_BL = self.token_of_bases(ids_BK, wanted_BL.shape[1])
        lengths_BK = self.table("token_bases", ids_BK.device)[ids_BK.long()]
        starts_BK = lengths_BK.cumsum(1) - lengths_BK
        row_H, base_H = wanted_BL.nonzero(as_tuple=True)
        token_H = token_BL[row_H, base_H]
        offset_H = base_H - starts_BK[row_H, token_H]
        return number_BK[row_H, token_H], ids_BK[row_H, token_H].long(), offset_H

    def kmer_ids(self, ids_BK: Tensor) -> Tensor:
        """Of the n-gram that begins at each token, or of the token alone."""
        return self._units(ids_BK)[0]

    def unit_lengths(self, ids_BK: Tensor) -> Tensor:
        return self._units(ids_BK)[1]

    def _units(self, ids_BK: Tensor) -> tuple[Tensor, Tensor]:
        """int32 [B, K] each: the unit that begins at each token, and how many tokens it has."""
        maskable_BK = self.is_maskable(ids_BK)
        ngrams, count = self.ngrams, 0 if self.ngrams is None else len(self.ngrams.keys)
        unit_BK = torch.where(maskable_BK, ids_BK + count, UNK)
        length_BK = torch.ones_like(ids_BK)
        if ngrams is None or not count:
            return unit_BK, length_BK
        keys, rank = (self.table(name, ids_BK.device) for name in Ngrams._fields)
        bits, columns = key_bits(self.vocab_size), ids_BK.shape[1]
        known_BK = torch.where(maskable_BK, ids_BK, 0).long()
        key_BK, best_BK = known_BK, torch.full_like(ids_BK, _UNRANKED)
        for n in range(2, max_tokens(self.vocab_size) + 1):
            next_BK = F.pad(known_BK[:, n - 1 :], (0, min(n - 1, columns)))
            key_BK = (key_BK << bits) | next_BK
            place_BK = torch.searchsorted(keys, key_BK).clamp(max=count - 1)
            found_BK = maskable_BK & (keys[place_BK] == key_BK)
            rank_BK = torch.where(found_BK, rank[place_BK], _UNRANKED)
            better_BK = rank_BK < best_BK
            best_BK = torch.where(better_BK, rank_BK, best_BK)
            unit_BK = torch.where(better_BK, place_BK.int() + FIRST_TOKEN, unit_BK)
            length_BK = torch.where(better_BK, n, length_BK)
        return unit_BK, length_BK

    def target_kmers(self, ids_T: Tensor, positions_M: Tensor, targets_M: Tensor) -> Tensor:
        counts_M = targets_M >= 0
        true_M = torch.where(counts_M, targets_M.int(), ids_T[positions_M])
        true_T = ids_T.scatter(0, positions_M, true_M)
        units_M = self.kmer_ids(true_T[None])[0, positions_M].long() - FIRST_TOKEN
        return torch.where(counts_M, units_M, -1)

    def unigram_counts(self, counts_V: np.ndarray) -> np.ndarray:
        """The table of n-grams has counts of tokens."""
        return counts_V


def known_pieces(codes: np.ndarray) -> list[tuple[int, int]]:
    """[start, end) of the pieces in which base codes are encoded: of stretches without code 4."""
    known = np.concatenate([[False], codes < 4, [False]])
    edges = np.flatnonzero(known[1:] != known[:-1]).reshape(-1, 2)
    return [
        (piece, min(piece + PIECE, end))
        for start, end in edges.tolist()
        for piece in range(start, end, PIECE)
    ]


def letters_of(codes: np.ndarray) -> str:
    """The text of known bases."""
    return _LETTERS[codes].tobytes().decode()


def _join(pieces: list[tuple[int, int]], encoded: Iterator[np.ndarray], bases: int) -> np.ndarray:
    """The ids of a row: of its pieces in turn, and one [UNK] for each base between them."""
    parts, at = [], 0
    for start, end in pieces:
        parts += [np.full(start - at, UNK, np.int32), next(encoded)]
        at = end
    return np.concatenate([*parts, np.full(bases - at, UNK, np.int32)])


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
