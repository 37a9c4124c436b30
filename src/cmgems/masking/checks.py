"""Does a masking strategy keep to the rules? For custom strategies and for registered ones.

>>> from cmgems.commands.check_masking import sample_tokens
>>> from cmgems.tokenization.kmers import OverlappingKmers
>>> corpus_BK, rank_V = sample_tokens("sample", OverlappingKmers(6))
>>> ranks = RankTables.before_training(rank_V)
>>> [c.name for c in check_strategy("random", corpus_BK, ranks, OverlappingKmers(6)) if c.problem]
[]
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cmgems.errors import UserError
from cmgems.masking.ops import draw_centers
from cmgems.masking.rates import CenterRates
from cmgems.masking.registry import CustomStrategy, strategy
from cmgems.masking.strategies import Strategy
from cmgems.masking.types import CENTERS, RankTables, StrategyInput, StrategyParams
from cmgems.tokenization.base import PAD, UNK, Tokenization
from cmgems.utils.rng import derive_key, sequence_keys

LENGTHS = (64, 128, 200, 333)  # at which the budget is checked, and at the longest
TOKENS = 300_000  # that each measured mask ratio is the mean of


class Check(NamedTuple):
    """What was checked, what came out, and what is wrong with it ("" if nothing is)."""

    name: str
    result: str
    problem: str = ""


class Subject(NamedTuple):
    """A strategy and the DNA that it is tried on."""

    strategy: Strategy
    name: str
    ids_BK: Tensor  # int32, windows without [UNK]
    ranks: RankTables
    tokenization: Tokenization

    def tokens(self, ids_BK: Tensor, rate: float = 0.02, position_offset: int = 0) -> StrategyInput:
        keys_B2 = torch.from_numpy(sequence_keys(derive_key(0, "check"), np.arange(len(ids_BK))))
        maskable_BK = self.tokenization.is_maskable(ids_BK)
        rate_B1 = torch.full((len(ids_BK), 1), rate)
        return StrategyInput(
            tokenization=self.tokenization,
            ids_BK=ids_BK,
            maskable_BK=maskable_BK,
            centers_BK=draw_centers(maskable_BK, keys_B2, rate_B1, CENTERS, position_offset),
            keys_B2=keys_B2,
            ranks=self.ranks,
            position_offset=position_offset,
        )


def check_strategy(
    name: str, corpus_BK: Tensor, ranks: RankTables, tokenization: Tokenization
) -> list[Check]:
    """Try a strategy, named as in an experiment, on windows of a genome.

    Parameters
    ----------
    name : of a registered strategy, or `package.module:Name`
    corpus_BK : int32 [N, K]
        Token ids of at least 200 windows without [UNK], K at least 64.
    ranks : RankTables
    tokenization : Tokenization

    Raises
    ------
    UserError
        If the strategy cannot be loaded.
    """
    subject = Subject(strategy(name), name, corpus_BK, ranks, tokenization)
    shape = _shape(subject)
    if shape.problem:
        return [shape]  # the others would only fail in less obvious ways
    return [shape, *(check(subject) for check in (*RULES, _budget, _content, _graph))]


def require_rules(
    name: str, corpus_BK: Tensor, ranks: RankTables, tokenization: Tokenization
) -> None:
    """Refuse a custom strategy that a run cannot be made of: it returns no masks, or they depend on
    something else than the sequence, so that the run could not be repeated.

    Parameters
    ----------
    name, corpus_BK, ranks, tokenization : see `check_strategy`

    Raises
    ------
    UserError
        With the first of its problems.
    """
    subject = Subject(strategy(name), name, corpus_BK, ranks, tokenization)
    for rule in RULES:
        try:
            check = rule(subject)
        except UserError as error:
            raise UserError(f"curriculum.strategies: {error}") from error
        if check.problem:
            raise UserError(
                f"curriculum.strategies: {name}: {check.name}: {check.result}; {check.problem}"
            )


def _shape(subject: Subject) -> Check:
    tokens = subject.tokens(subject.ids_BK[:20])
    try:
        mask = subject.strategy(tokens)
    except UserError as error:
        return Check("returns a mask", "an error", str(error))
    return Check("returns a mask", f"{mask.dtype} {list(mask.shape)}")


def _specials(subject: Subject) -> Check:
    ids_BK = subject.ids_BK[:50].clone()
    ids_BK[:, 30:41] = UNK
    ids_BK[:, 60:] = PAD
    ids_BK[::2, 50:] = subject.ids_BK[:50:2, 50:]
    masked = [subject.strategy(subject.tokens(ids_BK, rate)) for rate in (0.02, 0.3, 1.0)]
    wrong = sum(int((mask & ~subject.tokenization.is_maskable(ids_BK)).sum()) for mask in masked)
    problem = "mask & tokens.maskable_BK keeps to known bases" if wrong else ""
    return Check("leaves special tokens alone", f"{wrong} [UNK] or padding masked", problem)


def _repeats(subject: Subject) -> Check:
    tokens = subject.tokens(subject.ids_BK[:100])
    same = torch.equal(subject.strategy(tokens), subject.strategy(tokens))
    problem = "" if same else "draw with cmgems.masking.ops, not with a generator"
    return Check("repeats itself", "the same mask twice" if same else "another mask", problem)


def _batch(subject: Subject) -> Check:
    tokens = subject.tokens(subject.ids_BK[:30])
    together = subject.strategy(tokens)
    rows = [slice(row, row + 1) for row in range(30)]
    wrong = sum(
        not torch.equal(subject.strategy(_rows(tokens, row)), together[row]) for row in rows
    )
    problem = "a mask may depend on its own sequence alone" if wrong else ""
    return Check("does not see the batch", f"{wrong} of 30 differ when alone", problem)


def _rows(tokens: StrategyInput, rows: slice) -> StrategyInput:
    return tokens._replace(
        ids_BK=tokens.ids_BK[rows],
        maskable_BK=tokens.maskable_BK[rows],
        centers_BK=tokens.centers_BK[rows],
        keys_B2=tokens.keys_B2[rows],
    )


def _padding(subject: Subject) -> Check:
    ids_BK = subject.ids_BK[:50]
    plain = subject.strategy(subject.tokens(ids_BK))
    padded = subject.strategy(subject.tokens(F.pad(ids_BK, (0, 37), value=PAD)))
    wrong = int((padded[:, : ids_BK.shape[1]] != plain).any(1).sum())
    problem = "use tokens.maskable_BK, not the width of the batch" if wrong else ""
    return Check("does not see padding", f"{wrong} of 50 differ when padded", problem)


def _shift(subject: Subject) -> Check:
    """A sequence between stretches of [UNK], moved together with its draws."""
    inner_BK, margin = subject.ids_BK[:100], 50
    masks = []
    for left in (0, 7, margin):
        ids_BK = F.pad(inner_BK, (left, margin - left), value=UNK)
        mask = subject.strategy(subject.tokens(ids_BK, position_offset=-left))
        masks.append(mask[:, left : left + inner_BK.shape[1]])
    wrong = int(torch.stack([(mask != masks[0]).any(1) for mask in masks[1:]]).any(0).sum())
    problem = "use draws and ids, not positions in the tensor" if wrong else ""
    return Check("moves with the sequence", f"{wrong} of 100 differ when moved", problem)


def _edges(subject: Subject) -> Check:
    for width in (0, 1):
        ids_BK = subject.ids_BK[:4, :width].contiguous()
        try:
            subject.strategy(subject.tokens(ids_BK, rate=1.0))
        except UserError as error:
            return Check("takes short sequences", f"{width} tokens", str(error))
    return Check("takes short sequences", "0 and 1 tokens")


def _budget(subject: Subject) -> Check:
    max_length, cpu = subject.ids_BK.shape[1], torch.device("cpu")
    ranks = subject.ranks
    center_rates = CenterRates(
        subject.ids_BK, ranks.pmi_V, subject.tokenization, markov_rank_V=ranks.markov_V
    )
    rates = center_rates.rates(subject.name, subject.strategy, StrategyParams(), cpu)
    mask_ratios = {}
    for length in (*(n for n in LENGTHS if n < max_length), max_length):
        repeats = -(-TOKENS // (len(subject.ids_BK) * length))
        ids_BK = subject.ids_BK[:, :length].repeat(repeats, 1)
        mask = subject.strategy(subject.tokens(ids_BK, float(rates[length])))
        mask_ratios[length] = float(mask.double().mean())
    worst = max(mask_ratios.values(), key=lambda ratio: abs(ratio - 0.15))
    problem = ""
    if abs(worst - 0.15) > 0.005:
        problem = "more centres must mask more; wanted 0.15 +- 0.005 once the rate is solved"
    return Check("keeps the budget", f"0.15 wanted, {worst:.4f} at worst", problem)


# What a mask must not do; what it should is checked by `cmgems check-masking` as well.
RULES = (_specials, _repeats, _batch, _padding, _shift, _edges)


def _content(subject: Subject) -> Check:
    """Not a rule, but reported, so that nobody takes a mask for content-aware that is not."""
    half = len(subject.ids_BK) // 2
    tokens = subject.tokens(subject.ids_BK[:half])
    other = subject.strategy(tokens._replace(ids_BK=subject.ids_BK[half : 2 * half]))
    depends = bool((other != subject.strategy(tokens)).any())
    return Check("looks at the sequence", "yes" if depends else "no: masks other DNA alike")


def _graph(subject: Subject) -> Check:
    """Not a rule either: what waits for the device costs time on a GPU."""
    tokens = subject.tokens(subject.ids_BK[:8])
    own = subject.strategy
    function = own.function if isinstance(own, CustomStrategy) else own
    traced = torch.compile(function, backend=lambda graph, _: graph, fullgraph=True)
    try:
        traced(tokens)
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = str(error).strip().splitlines()[0]
        return Check("runs without waiting for the device", f"no: {reason}")
    return Check("runs without waiting for the device", "yes")
