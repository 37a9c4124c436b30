"""PMI of n-grams of 2 to 5 tokens: what PMI-Masking masks as one.

    PMI(w) = min over all segmentations of w into 2 or more contiguous pieces of
             ln( p(w) / prod p(piece) )

with p(w) = count of w / number of n-grams of its length, normalised by the count as the PMI of
k-mers is (`cmgems.difficulty.pmi`). All parts of a frequent n-gram are as frequent at least, so
that of longer ones only those are counted whose parts are: all counts are exact. Source: Levine et
al., ICLR 2021.
"""

from dataclasses import dataclass

import numpy as np

from cmgems.difficulty.pmi import normalize_pmi
from cmgems.difficulty.table import rank_scores
from cmgems.utils.ngram_keys import MAX_TOKENS, key_bits, max_tokens

MAX_NGRAMS = 800_000  # the masking vocabulary of PMI-Masking


@dataclass(frozen=True)
class NgramTable:
    """The M best-scored n-grams of a genome, and ranks of these and of the tokens behind them."""

    keys: np.ndarray  # int64 [M], ascending
    ngram_counts: np.ndarray  # int64 [M]
    npmi: np.ndarray  # float64 [M], nats
    rank: np.ndarray  # int32 [M + V], 1 = highest NPMI; tokens alone follow in the order of ids
    counts: np.ndarray  # int64 [V]: of the tokens that are not special
    min_count: int
    definition: str = "n-grams"
    k: int = MAX_TOKENS  # tokens of the longest n-grams


@dataclass(frozen=True)
class _Counted:
    keys: np.ndarray  # int64, ascending: the n-grams of one length with the least count or more
    counts: np.ndarray  # int64
    total: int  # n-grams of this length, rare ones included

    @property
    def log_p(self) -> np.ndarray:
        return np.log(self.counts / max(self.total, 1))


def ngram_table(
    ids: np.ndarray,
    piece_ends: np.ndarray,
    vocab_size: int,
    first_token: int,
    min_count: int,
    most: int = MAX_NGRAMS,
) -> NgramTable:
    """Count and score the n-grams of a genome's tokens.

    Parameters
    ----------
    ids : uint16 [T]
    piece_ends : int64 [P]
        Where each piece ends, as a number of tokens; n-grams lie inside pieces.
    vocab_size : int
        V and the special tokens.
    first_token : int
        The first id that is not special.
    min_count : int
        Rarer n-grams have no score.
    most : int
        n-grams that are kept.
    """
    counted = count_ngrams(ids, piece_ends, vocab_size, min_count)
    scores = _pmi(counted, key_bits(vocab_size))
    keys = np.concatenate([each.keys for each in counted[1:]])
    counts = np.concatenate([each.counts for each in counted[1:]])
    npmi = normalize_pmi(np.concatenate(scores), counts, min_count)
    best = np.sort(np.argsort(-npmi, kind="stable")[:most])
    best = best[~np.isnan(npmi[best])]
    tokens = vocab_size - first_token
    alone = len(best) + 1 + np.arange(tokens, dtype=np.int32)
    return NgramTable(
        keys=keys[best],
        ngram_counts=counts[best],
        npmi=npmi[best],
        rank=np.concatenate([rank_scores(npmi[best]), alone]).astype(np.int32),
        counts=np.bincount(ids, minlength=vocab_size)[first_token:],
        min_count=min_count,
    )


def count_ngrams(
    ids: np.ndarray, piece_ends: np.ndarray, vocab_size: int, min_count: int
) -> list[_Counted]:
    """Those of 1, 2, ... tokens; of the longer ones that are frequent."""
    left_T = np.repeat(piece_ends, np.diff(piece_ends, prepend=0)) - np.arange(len(ids))
    unigrams = np.bincount(ids, minlength=vocab_size)
    counted = [_Counted(np.arange(vocab_size), unigrams, len(ids))]
    frequent_T, key_T = np.ones(len(ids), bool), ids.astype(np.int64)
    bits = key_bits(vocab_size)
    for n in range(2, max_tokens(vocab_size) + 1):
        inside_T = left_T >= n
        whole_T = inside_T & frequent_T & np.append(frequent_T[1:], False)
        at = np.flatnonzero(whole_T)
        key_T[at] = (key_T[at] << bits) | ids[at + n - 1]
        keys, number, counts = np.unique(key_T[at], return_inverse=True, return_counts=True)
        kept = counts >= min_count
        frequent_T = np.zeros(len(ids), bool)
        frequent_T[at[kept[number]]] = True
        counted.append(_Counted(keys[kept], counts[kept], int(inside_T.sum())))
    return counted


def _pmi(counted: list[_Counted], bits: int) -> list[np.ndarray]:
    """float64 for the n-grams of 2, 3, ... tokens."""
    with np.errstate(divide="ignore"):
        log_p = [each.log_p for each in counted]
    best, scores = [log_p[0]], []  # of an n-gram in one or more pieces: its highest log probability
    for n in range(2, len(counted) + 1):
        keys = counted[n - 1].keys
        segmented = np.full(len(keys), -np.inf)
        for last in range(1, n):  # tokens of the last piece
            head, tail = keys >> bits * last, keys & ((1 << bits * last) - 1)
            heads = np.searchsorted(counted[n - last - 1].keys, head)
            tails = np.searchsorted(counted[last - 1].keys, tail)
            segmented = np.maximum(segmented, best[n - last - 1][heads] + log_p[last - 1][tails])
        scores.append(log_p[n - 1] - segmented)
        best.append(np.maximum(segmented, log_p[n - 1]))
    return scores
