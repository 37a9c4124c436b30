"""One budget for all strategies: the centre rate at which each masks the same share of tokens.

Windows overlap, are cut at the ends, and gather where good ranks gather, so one centre rate masks
another share with each strategy and length. Here the rate is solved for: with S(n) the mean share
that n centres mask in sequences of a given length, measured on windows of the genome itself, the
rate p at which sum_n Binomial(n; T, p) S(n) is the wanted share.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cmgems.draws import sequence_keys, stream, uniforms
from cmgems.masking.tokens import Tokens

LENGTHS = 40  # solved for; between them the rate is interpolated in the logarithm of the length
MOST_SEQUENCES = 256
MOST_TOKENS = 65_536  # sampled for one point of S(n)


def solve_rates(
    strategy: Callable[[Tokens], Tensor],
    corpus_BT: Tensor,
    rank_V: Tensor,
    k: int,
    share: float,
) -> Tensor:
    """Centre rate for every length of sequence.

    Parameters
    ----------
    strategy : Tokens -> mask_BT
    corpus_BT : int32 [N, T]
        Ids of windows without [UNK], of the most tokens that a sequence has.
    rank_V : int32 [V]
    k : int
    share : float
        Wanted expected share of masked among maskable tokens, in (0, 1).

    Returns
    -------
    float32 [T + 1]: the rate for a sequence of 0 .. T maskable tokens.
    """
    longest = corpus_BT.shape[1]
    lengths = np.unique(np.geomspace(1, longest, LENGTHS).round().astype(int)).tolist()
    rates = [
        _solve(*_share_by_centres(strategy, corpus_BT[:, :length], rank_V, k, share), length, share)
        for length in lengths
    ]
    by_length = np.interp(np.log(np.arange(1, longest + 1)), np.log(lengths), rates)
    return torch.tensor([0.0, *by_length], dtype=torch.float32)


def _share_by_centres(
    strategy: Callable, corpus_BT: Tensor, rank_V: Tensor, k: int, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of centres n and the mean masked share S(n), up to where it no longer matters."""
    length = corpus_BT.shape[1]
    rows = min(len(corpus_BT), MOST_SEQUENCES, max(1, MOST_TOKENS // length))
    ids_BT = corpus_BT[:rows]
    keys_B12 = torch.from_numpy(sequence_keys(stream(0, "budget"), np.arange(rows)))[:, None]
    drawn_BT = uniforms(keys_B12, torch.arange(length, dtype=torch.int32), 0)
    # The draws' order in place of the draws: the rate n / T then gives exactly n centres.
    exact_BT = (drawn_BT.argsort(1).argsort(1) + 0.5) / length
    counts = np.unique(np.geomspace(1, length, 24).round().astype(int))
    shares = [0.0]
    for count in counts:
        rate_B1 = torch.full((rows, 1), count / length)
        tokens = Tokens(
            k, ids_BT, torch.ones_like(ids_BT, dtype=torch.bool), exact_BT, rate_B1, rank_V
        )
        shares.append(strategy(tokens).double().mean().item())
        if shares[-1] > min(1.0, 4 * share):
            break  # so many centres are not drawn at any rate of interest
    return np.append(0, counts[: len(shares) - 1]), np.array(shares)


def _solve(counts: np.ndarray, shares: np.ndarray, length: int, share: float) -> float:
    """Bisect for the rate; the expectation grows with it."""
    every = np.arange(length + 1)
    share_by_count = np.interp(every, counts, shares)
    low, high = 0.0, 1.0
    for _ in range(40):
        rate = (low + high) / 2
        expected = binomial(length, rate) @ share_by_count
        low, high = (rate, high) if expected < share else (low, rate)
    return high


def binomial(trials: int, rate: float) -> np.ndarray:
    """Probabilities of 0 .. trials successes, float64 [trials + 1]."""
    if rate in (0.0, 1.0):
        return np.eye(trials + 1)[round(rate) * trials]
    steps = np.log(np.arange(1, trials + 1)).cumsum()
    log_factorial = np.concatenate([[0.0], steps])
    n = np.arange(trials + 1)
    log_choose = log_factorial[-1] - log_factorial - log_factorial[::-1]
    return np.exp(log_choose + n * np.log(rate) + (trials - n) * np.log1p(-rate))
