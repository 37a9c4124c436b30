"""What a pretrained model predicts of sequences and variants without any training.

The probability of a base is asked for with the base hidden: all tokens over it show [MASK]. Of
overlapping k-mers those are k, as in the wide window of pretraining, and the model's distributions
over them are summed over their other bases and averaged (`Tokenization.base_probabilities`); one
masked k-mer alone hides nothing, its neighbours spell it.

    pseudo-log-likelihood of a sequence: the sum over its bases of ln p(base | all other bases)
    score of a variant: ln p(alternative) - ln p(reference) at its position; below 0, the reference
    is likelier
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cmgems.errors import UserError
from cmgems.genome.alphabet import AMBIGUOUS
from cmgems.models.encoder import MaskedLanguageModel
from cmgems.models.layouts import SequenceLayout
from cmgems.tokenization.base import CLS, MASK, SEP, Tokenization

TOKENS_PER_BATCH = 8192


class Likelihood(NamedTuple):
    """The log-likelihood of a sequence, in nats."""

    total: float
    bases: int  # that were scored: the known ones under at least one token of known bases

    @property
    def mean(self) -> float:
        """Per base; nan where none could be scored."""
        return self.total / self.bases if self.bases else float("nan")


def pseudo_log_likelihood(
    model: MaskedLanguageModel, tokenization: Tokenization, codes: np.ndarray
) -> Likelihood:
    """The pseudo-log-likelihood of one sequence, with at most as many tokens as the model allows.

    Parameters
    ----------
    codes : uint8 base codes [L]; ambiguous bases are not scored
    """
    min_bases = tokenization.min_bases
    max_bases = tokenization.max_bases(model.encoder.config.max_position_embeddings)
    if not min_bases <= len(codes) <= max_bases:
        raise UserError(
            f"found a sequence of {len(codes)} bases, wanted {min_bases} to {max_bases} for this "
            f"model"
        )
    positions = np.flatnonzero(_scorable(codes, tokenization))
    total = 0.0
    for part in _split_batches(positions, len(codes)):
        windows = np.tile(codes, (len(part), 1))
        probabilities = base_distribution(model, tokenization, windows, part)
        own = probabilities[torch.arange(len(part)), codes[part].astype(np.int64)]
        total += float(own.log().sum())
    return Likelihood(total, len(positions))


def base_distribution(
    model: MaskedLanguageModel,
    tokenization: Tokenization,
    windows: np.ndarray,
    position_N: np.ndarray,
) -> Tensor:
    """float32 [N, 4]: p(A), p(T), p(C), p(G) at `position_N[n]` of window n, all else shown.

    Parameters
    ----------
    windows : uint8 base codes [N, L]
    position_N : int64 [N]
    """
    device = model.bias.device
    codes_BL = torch.from_numpy(windows)
    ids_BK = tokenization.encode(codes_BL).long()
    wanted_BL = torch.zeros_like(codes_BL, dtype=torch.bool)
    wanted_BL[torch.arange(len(position_N)), torch.from_numpy(position_N)] = True
    mask_BK = (tokenization.count_in_tokens(wanted_BL) > 0) & tokenization.is_maskable(ids_BK)
    shown_BK = torch.where(mask_BK, MASK, ids_BK)
    edge = torch.ones(len(ids_BK), 1, dtype=torch.int64)
    ids_BL = torch.cat([edge * CLS, shown_BK, edge * SEP], 1)
    hidden = torch.nn.functional.pad(mask_BK, (1, 1)).flatten().nonzero()[:, 0]
    layout = SequenceLayout.of((ids_BL.shape[1],) * len(ids_BL), device)
    with torch.no_grad():
        logits_MV = model(ids_BL.flatten().to(device), layout, hidden.to(device))
    return tokenization.base_probabilities(logits_MV.float().cpu(), mask_BK, wanted_BL)


def _scorable(codes: np.ndarray, tokenization: Tokenization) -> np.ndarray:
    """bool [L]: the bases that are known and under at least one token of known bases."""
    codes_BL = torch.from_numpy(codes)[None]
    known_BT = tokenization.is_maskable(tokenization.encode(codes_BL))
    return (tokenization.bases_of_tokens(known_BT) & (codes_BL < AMBIGUOUS))[0].numpy()


def _split_batches(positions: np.ndarray, length: int) -> Iterator[np.ndarray]:
    """Positions in batches, each position a copy of a sequence of so many bases."""
    size = max(1, TOKENS_PER_BATCH // length)
    for start in range(0, len(positions), size):
        yield positions[start : start + size]
