"""One budget for all strategies: the centre rate at which each masks the same fraction of tokens,
or hides the same fraction of bases.

Windows overlap, are cut at the ends, and gather where good ranks gather, so one centre rate masks
another fraction with each strategy and length. Here the rate is solved for: with S(n) the mean
fraction that n centres mask (or hide) in sequences of a given length, measured on windows of the
genome itself, the rate p at which sum_n Binomial(n; K, p) S(n) is the wanted fraction.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor

from cmgems.masking.rates_cache import RateCache
from cmgems.masking.strategies import (
    READS,
    READS_RANKS,
    STRATEGIES,
    Strategy,
    reads_ranks,
)
from cmgems.masking.strategies.pmi_ranked import TOKENS_PER_CENTER
from cmgems.masking.types import RankTables, StrategyInput, StrategyParams
from cmgems.tokenization.base import Tokenization, width
from cmgems.utils.rng import derive_key, sequence_keys, uniform_tensor

EVERY_LENGTH_TO = 16  # solved for one by one; a window is as long as the sequence there
LENGTHS = 12  # solved for above; between them the rate is interpolated in the length's logarithm
EVERY_COUNT_TO = 16  # measured one by one: genemask treats even and odd numbers differently
COUNTS = 12  # measured above
MAX_SEQUENCES = 1024
MAX_TOKENS = 262_144  # sampled for one point of S(n)


def corpus_tokens(tokenization: Tokenization, codes_BL: Tensor, columns: int) -> Tensor:
    """int32 [N, K]: the tokens of windows (base codes, uint8) as `mask_ratio_curves` takes them.

    Where windows of the same length differ in their numbers of tokens, the tokens of all windows
    are concatenated and cut into rows of K = `columns`, the most that a window has.
    """
    ids_BK = tokenization.encode(codes_BL)
    if not tokenization.on_host:
        return ids_BK
    ids = ids_BK[tokenization.is_maskable(ids_BK)]
    return ids[: len(ids) // columns * columns].view(-1, columns)


class MaskRatioCurve(NamedTuple):
    """S(n) for sequences of one length."""

    length: int  # tokens
    counts: np.ndarray  # numbers of centres n, from 0
    mask_ratios: np.ndarray  # mean fraction that they mask, of what the budget counts


def mask_ratio_curves(
    strategy: Strategy,
    corpus_BK: Tensor,
    ranks: RankTables,
    tokenization: Tokenization,
    params: StrategyParams,
) -> list[MaskRatioCurve]:
    """Measure S(n) for lengths from 1 to that of the corpus.

    Parameters
    ----------
    strategy : StrategyInput -> mask_BK
    corpus_BK : int32 [N, K]
        Ids of windows without [UNK], of as many tokens as a sequence can have.
    ranks : RankTables
    tokenization : Tokenization
    params : StrategyParams
        `mask_ratio` is the largest fraction of interest, the others are the strategy's.
    """
    lengths = _lengths(corpus_BK.shape[1])
    return [
        _mask_ratio_curve(strategy, corpus_BK[:, :length], ranks, tokenization, params)
        for length in lengths.tolist()
    ]


def _lengths(max_length: int) -> np.ndarray:
    """The lengths to measure, ascending, with the two sides of each jump of genemask's rule."""
    short = min(EVERY_LENGTH_TO, max_length)
    spread = np.geomspace(short, max_length, LENGTHS).round().astype(int)
    jumps = np.arange(TOKENS_PER_CENTER, max_length, TOKENS_PER_CENTER)
    sides = np.concatenate([np.floor(jumps), np.ceil(jumps)]).astype(int)
    return np.unique(np.concatenate([np.arange(1, short + 1), spread, sides[sides <= max_length]]))


def solve_rates(curves: list[MaskRatioCurve], mask_ratio: float) -> Tensor:
    """float32 [K + 1]: the centre rate for a sequence of 0 .. K maskable tokens.

    `mask_ratio` is the wanted expected fraction of what the curves were measured in, in (0, 1).
    """
    lengths = np.array([curve.length for curve in curves])
    rates = [_solve(curve, mask_ratio) for curve in curves]
    by_length = np.interp(np.log(np.arange(1, lengths[-1] + 1)), np.log(lengths), rates)
    return torch.tensor([0.0, *by_length], dtype=torch.float32)


def _mask_ratio_curve(
    strategy: Strategy,
    corpus_BK: Tensor,
    ranks: RankTables,
    tokenization: Tokenization,
    params: StrategyParams,
) -> MaskRatioCurve:
    """S(n) up to where it no longer matters."""
    length = corpus_BK.shape[1]
    rows = min(len(corpus_BK), MAX_SEQUENCES, max(1, MAX_TOKENS // length))
    ids_BK = corpus_BK[:rows].contiguous()
    keys_B2 = torch.from_numpy(sequence_keys(derive_key(0, "budget"), np.arange(rows)))
    drawn_BK = uniform_tensor(keys_B2[:, None], torch.arange(length, dtype=torch.int32), 0)
    order_BK = drawn_BK.argsort(1)
    place_BK = torch.empty_like(order_BK)  # of each token in the order of the draws
    place_BK.scatter_(1, order_BK, torch.arange(length).expand_as(order_BK))
    few = np.arange(1, min(EVERY_COUNT_TO, length) + 1)
    counts = np.union1d(few, np.geomspace(len(few), length, COUNTS).round().astype(int))
    mask_ratios = [0.0]
    for count in counts.tolist():
        tokens = StrategyInput(
            tokenization=tokenization,
            ids_BK=ids_BK,
            maskable_BK=torch.ones_like(ids_BK, dtype=torch.bool),
            centers_BK=place_BK < count,
            keys_B2=keys_B2,
            ranks=ranks,
            params=params,
        )
        mask_ratios.append(_budgeted_fraction(strategy(tokens), tokens))
        if count >= 8 and mask_ratios[-1] > min(0.99, 2.5 * params.mask_ratio):
            break  # so many centres are not drawn at any rate of interest
    return MaskRatioCurve(
        length, np.append(0, counts[: len(mask_ratios) - 1]), np.array(mask_ratios)
    )


def _budgeted_fraction(mask_BK: Tensor, tokens: StrategyInput) -> float:
    """The masked fraction of the tokens, or the hidden fraction of the bases, all of them known."""
    if tokens.params.budget == "tokens":
        return mask_BK.double().mean().item()
    tokenization, ids_BK = tokens.tokenization, tokens.ids_BK
    hidden = int(tokenization.hidden_bases(mask_BK, tokens.maskable_BK, ids_BK).sum())
    return hidden / int(tokenization.bases_of_tokens(tokens.maskable_BK, ids_BK).sum())


def _solve(curve: MaskRatioCurve, mask_ratio: float) -> float:
    """The rate, to 2**-30; the expectation grows with it.

    Bisected: brentq ends elsewhere within that width, which can change a float32's last bit.
    """
    count_N = np.arange(curve.length + 1)
    fraction_by_count = np.interp(count_N, curve.counts, curve.mask_ratios)
    low, high = 0.0, 1.0
    for _ in range(30):
        rate = (low + high) / 2
        expected = binom.pmf(count_N, curve.length, rate) @ fraction_by_count
        low, high = (rate, high) if expected < mask_ratio else (low, rate)
    return high


def _read(name: str) -> tuple[str, ...]:
    """The params that a strategy reads; a custom one may read any."""
    if name in STRATEGIES:
        return READS.get(name, ())
    return tuple(field for field in StrategyParams._fields if field not in BUDGET_FIELDS)


BUDGET_FIELDS = ("mask_ratio", "budget")  # these say how much to mask, the others how


def _tuned(name: str, params: StrategyParams) -> tuple[float, ...]:
    return tuple(getattr(params, field) for field in _read(name))


FOLLOW_LOSS = ("loss_V", "reducible_V")  # the tables that change in a run


class CurveKey(NamedTuple):
    """What the curves depend on next to the corpus and the ranks."""

    name: str  # of the strategy
    tuned: tuple[float, ...]  # the params that it reads
    budget: str

    @property
    def by_loss(self) -> bool:
        """Whether the masks may follow the model's loss; a custom strategy's may."""
        return any(reads_ranks(self.name, table) for table in FOLLOW_LOSS)


class RateKey(NamedTuple):
    """What rates depend on, and where they are."""

    curves: CurveKey
    mask_ratio: float
    device: torch.device


class CenterRates:
    """The centre rates of strategies, solved when first asked for.

    Parameters
    ----------
    corpus_BK : int32 [N, K], on the host
        Windows of the training genome without [UNK].
    rank_V : int32 [V]
        By PMI.
    tokenization : Tokenization
    paper : bool
        The paper's fixed rates, whatever fraction they mask.
    folder : Path, optional
        Where solved rates are cached for later runs.
    markov_rank_V : int32 [V], optional
        By a Markov model, if a strategy reads it.
    """

    def __init__(
        self,
        corpus_BK: Tensor,
        rank_V: Tensor,
        tokenization: Tokenization,
        paper: bool = False,
        folder: Path | None = None,
        markov_rank_V: Tensor | None = None,
    ) -> None:
        self.corpus_BK, self.tokenization, self.paper = corpus_BK, tokenization, paper
        self.ranks = self.first_ranks = RankTables.before_training(rank_V, markov_rank_V)
        self._cache = RateCache(folder, corpus_BK, rank_V, tokenization) if folder else None
        self._curves: dict[CurveKey, list[MaskRatioCurve]] = {}
        self._rates: dict[RateKey, Tensor] = {}

    def rates(
        self, name: str, strategy: Strategy, params: StrategyParams, device: torch.device
    ) -> Tensor:
        """float32 [K + 1] on `device`: the centre rate by number of maskable tokens."""
        curves = CurveKey(name, _tuned(name, params), params.budget)
        key = RateKey(curves, params.mask_ratio, device)
        if key not in self._rates:
            self._rates[key] = self._load_or_solve(key, strategy, params).to(device)
        return self._rates[key]

    def _load_or_solve(self, key: RateKey, strategy: Strategy, params: StrategyParams) -> Tensor:
        name = key.curves.name
        if self.paper:
            return torch.full((self.corpus_BK.shape[1] + 1,), paper_rate(name, self.tokenization))
        # A custom strategy may do anything, and ranks by the loss are never the same again.
        table = READS_RANKS.get(name, "pmi_V")
        rank_V, first_V = getattr(self.ranks, table), getattr(self.first_ranks, table)
        if self._cache is None or name not in STRATEGIES or rank_V is not first_V:
            return self._measure_and_solve(key.curves, strategy, params)
        # That of a budget in tokens is as it was when there was no other.
        budget = () if key.curves.budget == "tokens" else (key.curves.budget,)
        cache_key: tuple = (name, key.curves.tuned, key.mask_ratio, *budget)
        if first_V is not self.first_ranks.pmi_V:  # those are part of every key
            cache_key += (hashlib.sha256(first_V.numpy().tobytes()).hexdigest(),)
        return self._cache.rates(
            cache_key, lambda: self._measure_and_solve(key.curves, strategy, params)
        )

    def _measure_and_solve(
        self, key: CurveKey, strategy: Strategy, params: StrategyParams
    ) -> Tensor:
        # Curves are measured up to some multiple of the ratio, and again for a much larger one.
        curves = self._curves.get(key)
        if curves is None or curves[-1].mask_ratios[-1] < min(0.99, 2 * params.mask_ratio):
            curves = self._curves[key] = mask_ratio_curves(
                strategy, self.corpus_BK, self.ranks, self.tokenization, params
            )
        return solve_rates(curves, params.mask_ratio)

    def invalidate(self, ranks: RankTables) -> None:
        """Ranks by the model's loss have changed: forget the rates that may depend on them."""
        self.ranks = self.first_ranks._replace(
            **{table: getattr(ranks, table).cpu() for table in FOLLOW_LOSS}
        )
        self._curves = {key: curves for key, curves in self._curves.items() if not key.by_loss}
        self._rates = {key: rates for key, rates in self._rates.items() if not key.curves.by_loss}


def paper_rate(name: str, tokenization: Tokenization) -> float:
    """0.15 over the mean width of a strategy's windows, as if windows never overlapped."""
    plain, wide = (width(w) for w in (tokenization.windows.plain, tokenization.windows.wide))
    widths = {"uniform": 1, "random": plain, "genemask": (plain + wide) / 2}
    return 0.15 / widths.get(name, wide)
