"""One budget: every strategy masks the same fraction, on any DNA and at any length."""

import math

import numpy as np
import pytest
import torch

from cmgems.difficulty.pmi import pmi_table_from_counts
from cmgems.masking.masker import Masker
from cmgems.masking.rates import CenterRates, mask_ratio_curves, paper_rate, solve_rates
from cmgems.masking.strategies import STRATEGIES
from cmgems.masking.types import RankTables, StrategyParams
from cmgems.tokenization import OverlappingKmers, SingleBases
from cmgems.tokenization.base import FIRST_TOKEN
from cmgems.utils.rng import derive_key, sequence_keys

WINDOW = 510
KMERS, BASES = OverlappingKmers(6), SingleBases(6)
WANTED = pytest.approx(0.15, abs=0.005)


def random_dna(bases, at, seed=0):
    """Independent bases; `at` is the probability of A or T."""
    generator = np.random.default_rng(seed)
    return generator.choice(4, bases, p=[at / 2, at / 2, (1 - at) / 2, (1 - at) / 2]).astype(
        np.uint8
    )


def make_masker(codes, tokenization=KMERS):
    """A masker calibrated on a sample of a sequence's windows, as a run is, and other windows."""
    from cmgems.difficulty.counts import count_words

    rank_V = torch.from_numpy(pmi_table_from_counts(count_words(codes, 6)).rank)
    windows = len(codes) // WINDOW
    order = np.random.default_rng(0).permutation(windows)
    all_codes = torch.from_numpy(codes[: windows * WINDOW].reshape(-1, WINDOW)[order])
    corpus, other = all_codes[:512], all_codes[512:]
    rates = CenterRates(tokenization.encode(corpus), rank_V, tokenization)
    return Masker(tokenization, rank_V, rates), other


@pytest.fixture(scope="module", params=["human", "random", "AT-rich"])
def dna(request, genome):
    if request.param == "human":
        return make_masker(np.array(genome.codes[:3_000_000]))
    return make_masker(random_dna(3_000_000, at={"random": 0.5, "AT-rich": 0.8}[request.param]))


@pytest.fixture(scope="module")
def dna_as_bases(genome):
    return make_masker(np.array(genome.codes[:3_000_000]), BASES)


def masked_fraction(masker, codes_BL, name, lengths):
    """Masked of maskable tokens of windows cut to the given lengths in tokens."""
    totals = np.zeros(2)
    tokenization = masker.tokenization
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        bases = tokenization.max_bases(int(length) + 2)
        ids = tokenization.encode(codes_BL[torch.from_numpy(rows), :bases])
        keys = torch.from_numpy(sequence_keys(derive_key(7, "budget test"), rows))
        mask = masker.mask(ids, tokenization.is_maskable(ids), keys, name)
        totals += int(mask.sum()), mask.numel()
    return totals[0] / totals[1]


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("length", [64, 199, 505])
def test_masks_the_wanted_fraction_at_any_length(name, length, dna):
    masker, codes_BL = dna
    many_BL = codes_BL.repeat(-(-200_000 // (len(codes_BL) * length)), 1)[: 1_000_000 // length]
    assert masked_fraction(masker, many_BL, name, np.full(len(many_BL), length)) == WANTED


@pytest.mark.parametrize("name", STRATEGIES)
def test_masks_the_wanted_fraction_of_single_bases(name, dna_as_bases):
    masker, codes_BL = dna_as_bases
    for length in (64, 199, 510):
        some_BL = codes_BL[: 1_000_000 // length]
        full = np.full(len(some_BL), length)
        assert masked_fraction(masker, some_BL, name, full) == WANTED, length


@pytest.mark.parametrize("name", STRATEGIES)
def test_masks_the_wanted_fraction_of_dnaberts_mix_of_lengths(name, dna):
    """Half the windows full, the others uniform in 6 .. 510 bases: 1 .. 505 tokens."""
    masker, codes_BL = dna[0], dna[1][:2500]
    generator = np.random.default_rng(1)
    full = generator.random(len(codes_BL)) < 0.5
    lengths = np.where(full, 505, generator.integers(1, 506, len(codes_BL)))
    assert masked_fraction(masker, codes_BL, name, lengths) == WANTED


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("length", [1, 11, 20])
def test_below_64_tokens_the_fraction_holds_in_the_mean(name, length, dna):
    """A short sequence is masked in few large bites or not at all; the mean is kept."""
    masker, codes_BL = dna
    many_BL = codes_BL[:, :100].repeat(-(-60_000 // len(codes_BL)), 1)
    fraction = masked_fraction(masker, many_BL, name, np.full(len(many_BL), length))
    bite = min(length, 11) / length  # of the whole; its deviation over the draws
    assert fraction == pytest.approx(0.15, abs=0.005 + 3 * math.sqrt(0.15 * bite / len(many_BL)))


def test_a_sequence_no_longer_than_a_wide_window_is_masked_whole_or_not_at_all(dna):
    masker, codes_BL = dna
    ids = KMERS.encode(codes_BL[:, :11])  # 6 tokens: any wide window covers all
    keys = torch.from_numpy(sequence_keys(derive_key(7, "budget test"), np.arange(len(ids))))
    masked = masker.mask(ids, ids >= FIRST_TOKEN, keys, "random_wide").sum(1)
    assert set(masked.tolist()) == {0, 6}
    assert float((masked == 6).double().mean()) == pytest.approx(0.15, abs=0.03)


def test_the_fraction_is_kept_when_ranks_by_loss_change(genome):
    """Ranks that crowd: after a refresh the rates are solved for them."""
    plain, codes_BL = make_masker(np.array(genome.codes[:3_000_000]))
    masker = Masker(KMERS, plain.rank_V, plain.center_rates, follow_loss=True)
    lengths = np.full(len(codes_BL), 505)
    before = masked_fraction(masker, codes_BL, "loss_adaptive", lengths)
    # k-mers that begin with A or T are hard: they stand in crowds
    hard_V = (torch.arange(4096) < 2048).float() + torch.arange(4096) % 7 / 10
    masker.losses.observe(torch.arange(4096), hard_V)
    masker.refresh_losses(lambda tensor: tensor)
    assert not torch.equal(masker.losses.rank_V, plain.rank_V)
    after = masked_fraction(masker, codes_BL, "loss_adaptive", lengths)
    assert [before, after] == [WANTED, WANTED]


def expected_fraction_of_random(rate, length, k=6):
    """Mean over positions of 1 - (1 - rate) ** (centres whose window covers the position)."""
    covering = [min(p + 2, length - 1) - max(p - 3, 0) + 1 for p in range(length)]
    return sum(1 - (1 - rate) ** c for c in covering) / length


@pytest.mark.parametrize("mask_ratio", [0.05, 0.15, 0.4])
@pytest.mark.parametrize("length", [6, 20, 64, 200, 505])
def test_solved_rate_of_random_is_the_analytic_one(length, mask_ratio, human_ids, human_rank):
    params = StrategyParams(mask_ratio=mask_ratio)
    curves = mask_ratio_curves(
        STRATEGIES["random"], human_ids, RankTables.before_training(human_rank), KMERS, params
    )
    rates = solve_rates(curves, mask_ratio)
    expected = expected_fraction_of_random(float(rates[length]), length)
    assert expected == pytest.approx(mask_ratio, rel=0.03)


def test_paper_rates():
    """0.15 / 6, 0.15 / 8.5 and 0.15 / 11 for k = 6."""
    assert paper_rate("random", KMERS) == pytest.approx(0.025)
    assert paper_rate("genemask", KMERS) == pytest.approx(0.15 / 8.5)
    assert paper_rate("global_pmi", KMERS) == pytest.approx(0.15 / 11)
    assert paper_rate("random", OverlappingKmers(3)) == pytest.approx(0.05)


def test_paper_budget_is_the_paper_rate_at_every_length(human_ids, human_rank):
    center_rates = CenterRates(human_ids, human_rank, KMERS, paper=True)
    rates = center_rates.rates(
        "random", STRATEGIES["random"], StrategyParams(), torch.device("cpu")
    )
    assert rates.tolist() == [pytest.approx(0.025)] * 506


def hidden_fraction(masker, codes_BL, name, params):
    """Bases of windows that no visible token shows, found letter by letter."""
    tokenization, k = masker.tokenization, masker.tokenization.k
    ids = tokenization.encode(codes_BL)
    keys = torch.from_numpy(sequence_keys(derive_key(7, "budget test"), np.arange(len(ids))))
    mask = masker.mask(ids, tokenization.is_maskable(ids), keys, name, params)
    hidden = bases = 0
    for row in mask.tolist():
        covers = k if tokenization.name == "kmers" else 1
        shown = {t + i for t, masked in enumerate(row) if not masked for i in range(covers)}
        bases += len(row) + covers - 1
        hidden += len(row) + covers - 1 - len(shown)
    return hidden / bases


HIDING = [name for name in STRATEGIES if name != "uniform"]


@pytest.fixture(scope="module")
def short_windows(human_codes, human_rank):
    """A masker that is calibrated on windows of 85 bases, and others of them."""
    codes_BL = human_codes.reshape(-1, 85)
    corpus, other = codes_BL[::2], codes_BL[1::2].repeat(4, 1)
    known = corpus[(corpus < 4).all(1)]
    rates = CenterRates(KMERS.encode(known), human_rank, KMERS)
    return Masker(KMERS, human_rank, rates), other[(other < 4).all(1)]


@pytest.mark.parametrize("name", HIDING)
def test_hides_the_wanted_fraction_of_the_bases(name, short_windows):
    masker, codes_BL = short_windows
    params = StrategyParams(mask_ratio=0.2, budget="hidden_bases")
    assert hidden_fraction(masker, codes_BL, name, params) == pytest.approx(0.2, abs=0.008)


def test_at_equal_tokens_the_strategies_hide_unequal_fractions(short_windows):
    """The reason for a budget in hidden bases, and a proof that the test above can fail."""
    masker, codes_BL = short_windows
    plain, wide = (
        hidden_fraction(masker, codes_BL, name, StrategyParams())
        for name in ("random", "random_wide")
    )
    assert 2 * plain < wide


@pytest.mark.parametrize("name", ["random", "genemask"])
def test_a_masked_single_base_is_a_hidden_one(name, human_codes, human_rank):
    ids = BASES.encode(human_codes[:, :60])
    center_rates = CenterRates(ids[(ids < 9).all(1)], human_rank, BASES)
    by_tokens, by_bases = (
        center_rates.rates(
            name, STRATEGIES[name], StrategyParams(budget=budget), torch.device("cpu")
        )
        for budget in ("tokens", "hidden_bases")
    )
    assert torch.equal(by_tokens, by_bases)


def test_rates_follow_the_params_that_a_strategy_reads(human_ids, human_rank):
    center_rates, cpu = (
        CenterRates(human_ids[:64], human_rank, KMERS),
        torch.device("cpu"),
    )

    def rate(name, **tuned):
        return float(center_rates.rates(name, STRATEGIES[name], StrategyParams(**tuned), cpu)[300])

    assert rate("span", span_width=2.0) > 1.2 * rate("span", span_width=6.0)
    assert rate("random", span_width=2.0) == rate("random", span_width=6.0)
    assert rate("random", mask_ratio=0.3) > 2 * rate("random", mask_ratio=0.15)
