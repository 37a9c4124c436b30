"""What a pretrained model says of sequences and variants without any training.

The probability of a base is asked for with the base hidden: all k k-mers over it show [MASK], as
the wide window of pretraining does, and the model's distributions over those k-mers are summed over
their other bases and averaged
(`cmgems.tokenization.hidden.base_probabilities`). One masked k-mer alone hides nothing: its
neighbours spell it.

    pseudo-log-likelihood of a sequence: the sum over its bases of ln p(base | all other bases)
    score of a variant: ln p(alternative) - ln p(reference) at its place; below 0, the model finds
    the reference likelier
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cmgems.errors import UserError
from cmgems.genome.alphabet import AMBIGUOUS
from cmgems.models.attention import SequenceLayout
from cmgems.models.encoder import MaskedLanguageModel
from cmgems.tokenization.hidden import base_probabilities
from cmgems.tokenization.kmers import CLS, FIRST_KMER, MASK, SEP, UNK, token_ids

TOKENS_AT_ONCE = 8192


class Likelihood(NamedTuple):
    """Natural logarithms."""

    total: float
    bases: int  # that were scored: those whose k-mers are all known

    @property
    def mean(self) -> float:
        """A base; nan where none could be scored."""
        return self.total / self.bases if self.bases else float("nan")


def pseudo_log_likelihood(model: MaskedLanguageModel, k: int, codes: np.ndarray) -> Likelihood:
    """Of one sequence of at most as many k-mers as the model has positions for.

    Parameters
    ----------
    codes : uint8 base codes [L], L >= k; ambiguous bases are not scored
    """
    most = model.encoder.config.max_position_embeddings - 2 + k - 1
    if not k <= len(codes) <= most:
        raise UserError(
            f"found a sequence of {len(codes)} bases, wanted {k} to {most} for this model"
        )
    places = np.flatnonzero(_scorable(codes, k))
    total = 0.0
    for part in _parts(places, len(codes)):
        shares = _shares(model, k, codes, part)
        total += float(shares[torch.arange(len(part)), codes[part].astype(np.int64)].log().sum())
    return Likelihood(total, len(places))


def base_distribution(
    model: MaskedLanguageModel, k: int, windows: np.ndarray, at: np.ndarray
) -> Tensor:
    """float32 [N, 4]: p(A), p(T), p(C), p(G) at place `at[n]` of window n, everything else shown.

    Parameters
    ----------
    windows : uint8 base codes [N, L]
    at : int64 [N]
    """
    device = model.bias.device
    codes_BL = torch.from_numpy(windows)
    ids_BK = token_ids(codes_BL, k).long()
    place_B1 = torch.from_numpy(at)[:, None]
    token_K = torch.arange(ids_BK.shape[1])
    # tokens over the base: those that begin up to k - 1 bases before it
    mask_BK = (token_K <= place_B1) & (token_K > place_B1 - k) & (ids_BK != UNK)
    shown_BK = torch.where(mask_BK, MASK, ids_BK)
    edge = torch.ones(len(ids_BK), 1, dtype=torch.int64)
    ids_BL = torch.cat([edge * CLS, shown_BK, edge * SEP], 1)
    hidden = torch.nn.functional.pad(mask_BK, (1, 1)).flatten().nonzero()[:, 0]
    layout = SequenceLayout.of((ids_BL.shape[1],) * len(ids_BL), device)
    with torch.no_grad():
        logits_MV = model(ids_BL.flatten().to(device), layout, hidden.to(device))
    wanted_BL = torch.zeros_like(codes_BL, dtype=torch.bool)
    wanted_BL[torch.arange(len(at)), place_B1[:, 0]] = True
    logits_MV = logits_MV[:, : FIRST_KMER + 4**k].float().cpu()
    return base_probabilities(logits_MV, mask_BK, wanted_BL, k)


def _scorable(codes: np.ndarray, k: int) -> np.ndarray:
    """bool [L]: the bases that are known and have at least one k-mer without an unknown base."""
    unknown = np.concatenate([[0], np.cumsum(codes >= AMBIGUOUS)])
    whole = unknown[k:] == unknown[:-k]  # [L - k + 1]
    upto = np.concatenate([[0], np.cumsum(whole)])
    place = np.arange(len(codes))
    first, last = np.maximum(place - k + 1, 0), np.minimum(place, len(whole) - 1)
    return (upto[last + 1] > upto[first]) & (codes < AMBIGUOUS)


def _parts(places: np.ndarray, length: int) -> Iterator[np.ndarray]:
    size = max(1, TOKENS_AT_ONCE // length)
    for start in range(0, len(places), size):
        yield places[start : start + size]


def _shares(model: MaskedLanguageModel, k: int, codes: np.ndarray, places: np.ndarray) -> Tensor:
    return base_distribution(model, k, np.tile(codes, (len(places), 1)), places)
