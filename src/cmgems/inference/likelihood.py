"""What a pretrained model predicts of sequences and variants without any training.

The probability of a base is asked for with the base hidden: all tokens over it show [MASK]. Of
overlapping k-mers those are k, as in the wide window of pretraining, and the model's distributions
over them are summed over their other bases and averaged (`Tokenization.base_probabilities`); one
masked k-mer alone hides nothing, its neighbours spell it. Of byte pairs the likelihood is that of
the whole token, shared out over its bases (`Tokenization.score_bases`).

    pseudo-log-likelihood of a sequence: the sum over its bases of ln p(base | all other bases)

The scores of variants (`cmgems.inference.variants`) are differences of it.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
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
    problem = length_problem(tokenization, codes, model.encoder.config.max_position_embeddings)
    if problem:
        raise UserError(f"found a sequence that {problem}")
    positions = np.flatnonzero(scorable_bases(codes[None], tokenization)[0])
    rows = np.zeros_like(positions)
    nats = base_log_likelihoods(model, tokenization, codes[None], rows, positions)
    return Likelihood(float(nats.sum()), len(positions))


def base_log_likelihoods(
    model: MaskedLanguageModel,
    tokenization: Tokenization,
    windows: np.ndarray,
    row_R: np.ndarray,
    position_R: np.ndarray,
) -> np.ndarray:
    """float64 [R]: ln p(base | all other bases) of single bases of windows, each hidden in turn.

    Parameters
    ----------
    windows : uint8 base codes [N, L]
    row_R, position_R : int64 [R], which window and which of its bases; see `scorable_bases`
    """
    nats_R = np.empty(len(row_R))
    step = max(1, TOKENS_PER_BATCH // windows.shape[1])
    for start in range(0, len(row_R), step):
        part = slice(start, start + step)
        hidden = _predict(model, tokenization, windows[row_R[part]], position_R[part])
        nats_R[part] = tokenization.score_bases(*hidden).bits_H.numpy() * -math.log(2)
    return nats_R


def length_problem(tokenization: Tokenization, codes: np.ndarray, positions: int) -> str:
    """What is wrong with the length of a sequence for so many positions; "" if nothing is."""
    min_bases, max_bases = tokenization.min_bases, tokenization.max_bases(positions)
    if not min_bases <= len(codes) <= max_bases:
        return f"has {len(codes):,} bases, wanted {min_bases} to {max_bases:,} for this model"
    if tokenization.on_host:
        tokens = len(tokenization.encode(torch.from_numpy(codes)))
        if tokens > positions - 2:
            return f"has {tokens:,} tokens, wanted at most {positions - 2:,} for this model"
    return ""


def base_distribution(
    model: MaskedLanguageModel,
    tokenization: Tokenization,
    windows: np.ndarray,
    position_N: np.ndarray,
) -> Tensor:
    """float32 [N, 4]: p(A), p(T), p(C), p(G) at `position_N[n]` of window n, all else shown.

    Of a window with more tokens than the model has positions those around the base are shown.

    Parameters
    ----------
    windows : uint8 base codes [N, L]
    position_N : int64 [N]
    """
    hidden = _predict(model, tokenization, windows, position_N)
    return tokenization.base_probabilities(
        hidden.logits_MV, hidden.mask_BK, hidden.wanted_BL, hidden.ids_BK
    )


class _Hidden(NamedTuple):
    """What `Tokenization.score_bases` takes, on the CPU."""

    logits_MV: Tensor
    mask_BK: Tensor
    wanted_BL: Tensor
    codes_BL: Tensor
    ids_BK: Tensor


def _predict(
    model: MaskedLanguageModel,
    tokenization: Tokenization,
    windows: np.ndarray,
    position_N: np.ndarray,
) -> _Hidden:
    """The predictions of the tokens over one base of each window; see `base_distribution`."""
    device = model.bias.device
    codes_BL = torch.from_numpy(windows)
    ids_BK = tokenization.encode(codes_BL).long()
    wanted_BL = torch.zeros_like(codes_BL, dtype=torch.bool)
    wanted_BL[torch.arange(len(position_N)), torch.from_numpy(position_N)] = True
    over_BK = tokenization.count_in_tokens(wanted_BL, ids_BK) > 0
    mask_BK = over_BK & tokenization.is_maskable(ids_BK)
    shown_BK = torch.where(mask_BK, MASK, ids_BK)
    counts = tokenization.count_tokens(ids_BK, (windows.shape[1],) * len(windows))
    rows = list(_around(shown_BK, counts, model.encoder.config.max_position_embeddings - 2))
    sep = int(model.encoder.config.sep_token)
    rows = [F.pad(F.pad(row, (1, 0), value=CLS), (0, sep), value=SEP) for row in rows]
    ids_T, layout = torch.cat(rows), SequenceLayout.of(tuple(map(len, rows)), device)
    hidden = (ids_T == MASK).nonzero()[:, 0]
    with torch.no_grad():
        logits_MV = model(ids_T.to(device), layout, hidden.to(device))
    return _Hidden(logits_MV.float().cpu(), mask_BK, wanted_BL, codes_BL, ids_BK)


def _around(shown_BK: Tensor, counts: tuple[int, ...], room: int) -> Iterator[Tensor]:
    """Of each row's tokens at most `room`, with its first [MASK] in their middle."""
    for shown_K, count in zip(shown_BK, counts, strict=True):
        middle = int((shown_K == MASK).int().argmax())
        start = max(min(middle - room // 2, count - room), 0)
        yield shown_K[start : min(start + room, count)]


def scorable_bases(codes_BL: np.ndarray, tokenization: Tokenization) -> np.ndarray:
    """bool [B, L]: the bases that are known and under at least one token of known bases."""
    codes = torch.from_numpy(codes_BL)
    ids_BK = tokenization.encode(codes)
    maskable_BK = tokenization.is_maskable(ids_BK)
    known_BL = tokenization.bases_of_tokens(maskable_BK, ids_BK, codes.shape[1])
    return (known_BL & (codes < AMBIGUOUS)).numpy()
