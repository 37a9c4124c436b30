"""What a token is: the questions that every tokenization answers.

A tokenization turns base codes into token ids. Nothing outside this folder knows what bases a
token consists of; whoever has to know asks the tokenization:

    encode                  base codes -> token ids
    num_tokens, max_bases   how many tokens a sequence has, and the longest one that fits
    bases_of_tokens         the bases under marked tokens, and back: `count_in_tokens`
    hidden_bases            the bases that a mask hides
    base_probabilities      what predicted tokens say of the bases under them, and in bits:
                            `score_bases`
    windows                 how many tokens around a centre a strategy masks to hide so many bases
    kmer_ids                which k-mer's PMI says how hard a token is

To add one: a frozen dataclass in a file of its own, a line in `cmgems.tokenization.TOKENIZATIONS`,
its tokenizer for other tools in `cmgems.tokenization.hf`. A tokenization whose ids depend on more
than a few adjacent bases encodes in the loader, on the host (`on_host`, see `adjacent`): batches
bring their ids along, since the number of tokens follows from the number of bases only where all
bases are known. Where the tokens differ in length, what lies under them depends on their ids:
methods take them as `ids_BK`, with the number of bases as `width`, and the others ignore both.

H is here the number of wanted bases. Base codes are uint8, A T C G = 0 1 2 3, anything else = 4.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNK, CLS, SEP, MASK = range(5)
FIRST_TOKEN = len(SPECIAL_TOKENS)  # the ids of DNA begin here, in every vocabulary

Window = tuple[int, int]  # offsets around a centre, first and last included
Count = TypeVar("Count", int, Tensor, np.ndarray)


def width(window: Window) -> int:
    """Tokens in a window."""
    first, last = window
    return last - first + 1


class SpanWindows(NamedTuple):
    """How far strategies reach around a centre, in tokens.

    The windows are told apart by the bases that they hide, so a strategy means the same with every
    tokenization.
    """

    plain: Window  # hides one base
    wide: Window  # hides the k bases of the k-mer that ranks the centre
    search: Window  # where `genemask` looks for a better-ranked token; a wide window around it
    # masks the centre too
    overlap: int  # tokens that a masked run is longer than the run of bases that it hides


def centered_window(k: int) -> Window:
    """k positions around one, as DNABERT's MASK_LIST has them: -2 .. 3 for k = 6."""
    return -((k - 1) // 2), k // 2


class HiddenBaseScores(NamedTuple):
    """A model's prediction of H hidden bases."""

    bits_H: Tensor  # float64: -log2 of the probability of the true base
    correct_H: Tensor  # bool: the most probable base is the true one


class Tokenization(ABC):
    """How DNA becomes tokens.

    Implementations are frozen dataclasses: equal if their fields are, constants to torch.compile,
    and told apart in caches on disk by their `repr`.

    Attributes
    ----------
    name : str
        The value of `data.tokenization` that stands for it.
    has_base_probabilities : bool
        Whether `base_probabilities` gives any; if not, `score_bases` is a method of its own.
    k : int
        Bases of the k-mers that difficulty is known of: tables of ranks have 4**k entries.
    first_token : int
        The first id that is not special.
    """

    name: ClassVar[str]
    on_host: ClassVar[bool] = False  # whether `encode` works on the host alone
    first_token: ClassVar[int] = FIRST_TOKEN
    has_base_probabilities: ClassVar[bool] = True
    k: int

    @property
    @abstractmethod
    def token(self) -> str:
        """What a token is called."""

    @property
    @abstractmethod
    def description(self) -> str:
        """What the tokens are, in the plural."""

    @property
    @abstractmethod
    def hf_config(self) -> dict[str, int | str]:
        """What a `config.json` says of the tokens."""

    @property
    @abstractmethod
    def vocabulary(self) -> tuple[str, ...]:
        """All tokens in the order of their ids, the special ones first."""

    @property
    @abstractmethod
    def vocab_size(self) -> int: ...

    @property
    @abstractmethod
    def replacements(self) -> int:
        """A masked token that is replaced at random becomes one of so many from `first_token` on:
        all that can be masked, and no other."""

    @property
    @abstractmethod
    def windows(self) -> SpanWindows: ...

    @property
    def max_hidden_run(self) -> int:
        """Bases that a single wide window hides: longer runs, where windows overlap, are left out
        of the metrics of hidden bases."""
        return self.k

    @property
    @abstractmethod
    def min_bases(self) -> int:
        """Bases of the shortest sequence that has a token."""

    @abstractmethod
    def content_tokens(self, bases: Count) -> Count:
        """Tokens of a sequence of so many bases, without [CLS] and [SEP]."""

    def num_tokens(self, bases: Count) -> Count:
        """Tokens of a sequence of so many bases, [CLS] and [SEP] included."""
        return self.content_tokens(bases) + 2

    def max_tokens(self, bases: int) -> int:
        """The most tokens that a sequence of at most so many known bases has, [CLS] and [SEP]
        included."""
        return int(self.num_tokens(bases))

    @abstractmethod
    def span_tokens(self, bases: Count) -> Count:
        """Tokens in a row that hide so many bases."""

    @abstractmethod
    def max_bases(self, tokens: int) -> int:
        """Bases of the longest sequence of at most so many tokens, [CLS] and [SEP] included."""

    @abstractmethod
    def encode(self, codes: Tensor, bases: Sequence[int] | None = None) -> Tensor:
        """int32 [..., K]: token ids of base codes uint8 [..., L], on the codes' own device.

        `bases` are the lengths of the rows, where codes are padded on the right. Rows that have
        fewer tokens than others end in [PAD], or in tokens of unknown bases, which is what padding
        becomes where a token does not depend on the length of its sequence.

        Raises
        ------
        ValueError
            If there are fewer than `min_bases` bases.
        """

    @abstractmethod
    def is_maskable(self, ids: Tensor) -> Tensor:
        """bool, shape of the ids: tokens of known bases, which can be masked and predicted."""

    def count_tokens(self, ids_BK: Tensor, bases: Sequence[int]) -> tuple[int, ...]:
        """Tokens of sequences of these lengths, without [CLS] and [SEP]; `ids_BK` are theirs."""
        return tuple(map(self.content_tokens, bases))

    @abstractmethod
    def bases_of_tokens(
        self, tokens_BK: Tensor, ids_BK: Tensor | None = None, width: int | None = None
    ) -> Tensor:
        """bool [B, L]: the bases under the marked tokens, bool [B, K]; `width` is L."""

    @abstractmethod
    def count_in_tokens(self, bases_BL: Tensor, ids_BK: Tensor | None = None) -> Tensor:
        """int64 [B, K]: how many of the marked bases, bool [B, L], lie under each token."""

    def hidden_bases(
        self,
        mask_BK: Tensor,
        maskable_BK: Tensor | None = None,
        ids_BK: Tensor | None = None,
        width: int | None = None,
    ) -> Tensor:
        """bool [B, L]: bases that lie under a masked token and under no visible one.

        Parameters
        ----------
        mask_BK : bool [B, K]
        maskable_BK : bool [B, K]
            False for what shows nothing ([UNK], N, padding); if it is not given, all tokens do.
        ids_BK : int32 [B, K]
            The tokens, and how many bases L they have: where tokens differ in length.
        width : int
        """
        if maskable_BK is None:
            maskable_BK = torch.ones_like(mask_BK)
        visible_BL = self.bases_of_tokens(maskable_BK & ~mask_BK, ids_BK, width)
        return self.bases_of_tokens(mask_BK, ids_BK, width) & ~visible_BL

    @abstractmethod
    def base_probabilities(
        self,
        logits_MV: Tensor,
        mask_BK: Tensor,
        wanted_BL: Tensor,
        ids_BK: Tensor | None = None,
    ) -> Tensor:
        """float32 [H, 4]: the model's distribution of each wanted base, all of them hidden.

        `logits_MV` are those of the masked tokens in the order of `mask_BK`, over the whole
        vocabulary (or more columns, if it was filled up).
        """

    def score_bases(
        self,
        logits_MV: Tensor,
        mask_BK: Tensor,
        wanted_BL: Tensor,
        codes_BL: Tensor,
        ids_BK: Tensor | None = None,
    ) -> HiddenBaseScores:
        """How well the wanted bases, all of them hidden, are predicted; `codes_BL` are the true
        ones. See `base_probabilities`."""
        probability_H4 = self.base_probabilities(logits_MV, mask_BK, wanted_BL, ids_BK)
        true_H = codes_BL[wanted_BL].long()
        bits_H = -probability_H4.gather(1, true_H[:, None])[:, 0].double().log2()
        return HiddenBaseScores(bits_H, probability_H4.argmax(1) == true_H)

    @abstractmethod
    def kmer_ids(self, ids_BK: Tensor) -> Tensor:
        """int32 [B, K]: the k-mer whose rank is a token's, as an id of the vocabulary of k-mers;
        below `first_token` where there is none.

        The index of a k-mer in tables of ranks is its id - `first_token`.
        """

    def unit_lengths(self, ids_BK: Tensor) -> Tensor | None:
        """int32 [B, K]: tokens from each one on that a wide window around it masks, where that
        depends on which they are; None where it is `windows.wide`."""
        return None

    @abstractmethod
    def target_kmers(self, ids_T: Tensor, positions_M: Tensor, targets_M: Tensor) -> Tensor:
        """int64 [M]: index of the k-mer that each prediction is counted for; below 0 for none.

        Parameters
        ----------
        ids_T : int32 [T]
            Packed sequences, each between [CLS] and [SEP], as the encoder saw them.
        positions_M : int64 [M]
            What is predicted.
        targets_M : int64 [M]
            The true ids; below 0 where a position does not count.
        """

    @abstractmethod
    def unigram_counts(self, counts_V: np.ndarray) -> np.ndarray:
        """How often each token occurs in DNA with these counts of k-mers."""
