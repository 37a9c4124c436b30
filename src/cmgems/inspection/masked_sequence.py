"""Sequences under a mask, one by one: what a strategy does, for the eye and for a program."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from cmgems.errors import UserError
from cmgems.genome.alphabet import AMBIGUOUS, BASES
from cmgems.masking.masker import Masker
from cmgems.utils.rng import derive_key, sequence_keys

HIDDEN = "_"  # in place of a base that no visible token shows


class MaskedSequence(NamedTuple):
    """A sequence of L bases, as K tokens of which some are masked.

    `str` of it is the sequence with `_` for the hidden bases. A base under a masked token is not
    hidden if an adjacent token, which is not masked, shows it.
    """

    bases: str  # [L]; N for an unknown base
    tokens: tuple[str, ...]  # [K], before masking, without [CLS] and [SEP]
    token_ids: np.ndarray  # int32 [K]
    mask: np.ndarray  # bool [K]: the tokens that the encoder does not see and has to predict
    hidden: np.ndarray  # bool [L]: the bases that no visible token shows

    def __str__(self) -> str:
        shown = zip(self.bases, self.hidden.tolist(), strict=True)
        return "".join(HIDDEN if is_hidden else base for base, is_hidden in shown)


def mask_sequences(
    masker: Masker, strategy: str, sequences: Sequence[np.ndarray], max_bases: int, seed: int
) -> list[MaskedSequence]:
    """Mask sequences as a run does; each mask belongs to its number and the seed alone.

    Parameters
    ----------
    strategy : of a registered strategy, or `package.module:Name`
    sequences : base codes, uint8 [L] each
    max_bases : of the windows on which the budget of the masker was measured

    Raises
    ------
    UserError
        If a sequence is longer than `max_bases`, or there is no such strategy.
    """
    for number, codes in enumerate(sequences):
        if len(codes) > max_bases:
            raise UserError(
                f"sequences[{number}]: has {len(codes):,} bases, wanted at most {max_bases:,}, "
                f"data.window_length of the experiment"
            )
    if not sequences:
        return []
    codes_BL = _padded(sequences)
    tokenization = masker.tokenization
    bases = [len(codes) for codes in sequences]
    ids_BK = tokenization.encode(codes_BL, bases)
    maskable_BK = tokenization.is_maskable(ids_BK)
    keys_B2 = torch.from_numpy(sequence_keys(derive_key(seed, "mask"), np.arange(len(ids_BK))))
    mask_BK = masker.mask(ids_BK, maskable_BK, keys_B2, strategy)
    hidden_BL = tokenization.hidden_bases(mask_BK, maskable_BK, ids_BK, codes_BL.shape[1])
    names, letters = tokenization.vocabulary, BASES + "N"
    masked = []
    counts = tokenization.count_tokens(ids_BK, bases)
    for row, (codes, tokens) in enumerate(zip(sequences, counts, strict=True)):
        ids = ids_BK[row, :tokens].numpy()
        masked.append(
            MaskedSequence(
                bases="".join(letters[code] for code in codes),
                tokens=tuple(names[token] for token in ids),
                token_ids=ids,
                mask=mask_BK[row, :tokens].numpy(),
                hidden=hidden_BL[row, : len(codes)].numpy(),
            )
        )
    return masked


def _padded(sequences: Sequence[np.ndarray]) -> torch.Tensor:
    """uint8 [B, L]: base codes, padded on the right with unknown bases."""
    max_length = max(len(codes) for codes in sequences)
    codes_BL = np.full((len(sequences), max_length), AMBIGUOUS, np.uint8)
    for row, codes in enumerate(sequences):
        codes_BL[row, : len(codes)] = codes
    return torch.from_numpy(codes_BL)
