"""What a mask hides: by hand, by definition, and as metrics of hidden bases."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems.masking.mask_statistics import dust_scores, mask_statistics
from cmgems.tokenization import OverlappingKmers
from cmgems.tokenization.base import FIRST_TOKEN
from cmgems.tokenization.hidden import mask_exposure, runs_up_to
from cmgems.training.metrics import HiddenBaseMetric


def mask_from(text):
    return torch.tensor([[letter == "x" for letter in text]])


@pytest.mark.parametrize(
    ("mask", "k", "hidden"),
    [
        ("....", 3, "......"),
        (".xx.", 3, "......"),  # fewer than k in a row hide nothing
        (".xxx..", 3, "...x...."),  # k hide one base
        (".xxxxx..", 3, "...xxx...."),  # 2k - 1 hide k
        ("xx..", 3, "xx...."),  # at the end of a sequence fewer tokens lie over a base
        ("xxxx", 3, "xxxxxx"),
    ],
)
def test_hidden_bases_by_hand(mask, k, hidden):
    assert OverlappingKmers(k).hidden_bases(mask_from(mask))[0].tolist() == [
        letter == "x" for letter in hidden
    ]


def test_unknown_tokens_show_nothing():
    """[UNK] at both sides of three masked tokens: no base of theirs is shown by a k-mer."""
    maskable = mask_from(".xxx.")
    assert OverlappingKmers(3).hidden_bases(mask_from(".xxx."), maskable)[0].tolist() == [
        False,
        *[True] * 5,
        False,
    ]


masks = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.booleans(), min_size=n, max_size=n),
        st.lists(st.sampled_from([True, True, True, False]), min_size=n, max_size=n),
        st.sampled_from([3, 4, 6]),
    )
)


@given(masks)
@settings(max_examples=150, deadline=None)
def test_equals_the_definition(drawn):
    masked, known, k = drawn
    masked = [m and u for m, u in zip(masked, known, strict=True)]
    exposure = mask_exposure(OverlappingKmers(k), torch.tensor([masked]), torch.tensor([known]))
    for base in range(len(masked) + k - 1):
        over = [t for t in range(base - k + 1, base + 1) if 0 <= t < len(masked)]
        hidden = any(masked[t] for t in over) and not any(known[t] and not masked[t] for t in over)
        assert bool(exposure.hidden_BL[0, base]) == hidden
    for token, is_masked in enumerate(masked):
        inside = int(exposure.hidden_BL[0, token : token + k].sum())
        assert int(exposure.hidden_BK[0, token]) == (inside if is_masked else 0)
        assert bool(exposure.copyable_BK[0, token]) == (is_masked and inside == 0)
    assert exposure.masked == sum(masked)


@pytest.mark.parametrize(("run", "hidden"), [(5, 0), (6, 1), (8, 3), (11, 6), (20, 15)])
def test_m_masked_kmers_hide_m_less_k_plus_1_bases(run, hidden):
    mask = torch.zeros(1, 60, dtype=torch.bool)
    mask[:, 20 : 20 + run] = True
    exposure = mask_exposure(OverlappingKmers(6), mask)
    assert exposure.hidden_bases == hidden
    assert exposure.copyable == (run if run < 6 else 0)


def test_perplexity_floor():
    """One hidden base in each of 6 tokens: 2 bits per token if DNA is unknown, that is 4."""
    mask = torch.zeros(1, 60, dtype=torch.bool)
    mask[:, 20:26] = True
    assert mask_exposure(OverlappingKmers(6), mask).perplexity_floor(2.0) == pytest.approx(4.0)
    mask[:, 20:31] = True  # a window of 11: 36 hidden bases in 11 tokens
    assert mask_exposure(OverlappingKmers(6), mask).perplexity_floor(2.0) == pytest.approx(
        4 ** (36 / 11)
    )
    assert mask_exposure(OverlappingKmers(6), mask & False).perplexity_floor() == 1.0


def test_runs():
    hidden = mask_from("xx.xxx.xxxx.x")
    assert runs_up_to(hidden, 2)[0].tolist() == mask_from("xx..........x")[0].tolist()
    assert torch.equal(runs_up_to(hidden, 4), hidden)
    # a run does not go on in the next row
    two = torch.cat([mask_from("..xx"), mask_from("xx..")])
    assert torch.equal(runs_up_to(two, 2), two)


def sequence_and_mask(k=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    codes_BL = torch.randint(0, 4, (3, 60), generator=generator).to(torch.uint8)
    mask_BK = torch.zeros(3, 60 - k + 1, dtype=torch.bool)
    mask_BK[0, 10 : 10 + 2 * k - 1] = mask_BK[1, 30 : 30 + k] = mask_BK[2, :4] = True
    return codes_BL, OverlappingKmers(k).encode(codes_BL), mask_BK


def test_a_model_that_knows_pays_nothing_and_one_that_does_not_pays_two_bits():
    codes_BL, ids_BK, mask_BK = sequence_and_mask()
    targets_M = ids_BK[mask_BK].long()
    everything = torch.ones_like(mask_BK)
    for logit, bits, accuracy in ((50.0, 0.0, 1.0), (0.0, 2.0, None)):
        logits_MV = torch.zeros(len(targets_M), FIRST_TOKEN + 64)
        logits_MV[torch.arange(len(targets_M)), targets_M] = logit
        logits_MV[:, :FIRST_TOKEN] = 90.0  # special tokens are no answer
        metric = HiddenBaseMetric(OverlappingKmers(3))
        metric.update(logits_MV, targets_M, codes_BL, mask_BK, everything)
        values = metric.compute()
        assert values.hidden_base_bits == pytest.approx(bits, abs=1e-5)
        assert values.hidden_bases == 3 + 1  # the run of 4 at the end of row 2 is longer than k
        if accuracy:
            assert values.hidden_base_accuracy == accuracy


def test_base_probabilities_are_those_of_summed_kmers():
    codes_BL, _, mask_BK = sequence_and_mask()
    logits_MV = torch.randn(int(mask_BK.sum()), FIRST_TOKEN + 64)
    wanted_BL = runs_up_to(OverlappingKmers(3).hidden_bases(mask_BK), 3)
    probabilities_H4 = OverlappingKmers(3).base_probabilities(logits_MV, mask_BK, wanted_BL)
    assert probabilities_H4.sum(1).tolist() == [pytest.approx(1.0, abs=1e-5)] * len(
        probabilities_H4
    )
    # the single hidden base of row 1, position 32: the last of token 30, the first of token 32
    chance = logits_MV[:, FIRST_TOKEN:].softmax(1)
    before = int(mask_BK[0].sum())
    by_hand = torch.zeros(4)
    for token, offset in ((0, 2), (1, 1), (2, 0)):
        for kmer in range(64):
            by_hand[kmer >> 2 * (2 - offset) & 3] += chance[before + token, kmer] / 3
    assert probabilities_H4[3].tolist() == pytest.approx(by_hand.tolist(), abs=1e-5)
    assert codes_BL.shape[1] == 60


def test_dust_scores():
    """By the formula, for a homopolymer, a repeat of two, and random DNA."""
    homopolymer = np.zeros((1, 64), np.uint8)
    assert dust_scores(homopolymer)[0, 30] == pytest.approx((30 * 29 / 2) / 29)
    repeat = np.tile(np.array([0, 1], np.uint8), 32)[None]
    assert dust_scores(repeat)[0, 30] == pytest.approx(2 * (15 * 14 / 2) / 29)
    random_dna = np.random.default_rng(0).integers(0, 4, (50, 200)).astype(np.uint8)
    assert dust_scores(random_dna).mean() == pytest.approx(15 / 64, rel=0.05)


def test_mask_statistics_on_what_is_known():
    """GC-rich left half, AT-rich right half, and a mask on the left alone."""
    codes_BL = torch.cat([torch.full((2, 50), 2), torch.full((2, 50), 0)], dim=1).to(torch.uint8)
    ids_BK = OverlappingKmers(6).encode(codes_BL)
    mask_BK = torch.zeros_like(ids_BK, dtype=torch.bool)
    mask_BK[:, 10:21] = True
    rank_V = torch.arange(1, 4097, dtype=torch.int32)
    statistics = mask_statistics(codes_BL, ids_BK, mask_BK, rank_V, OverlappingKmers(6))
    assert statistics.masked_fraction == pytest.approx(11 / 95)
    assert statistics.hidden_fraction == pytest.approx(6 / 100)
    assert (statistics.gc_hidden, statistics.gc_others) == (1.0, pytest.approx(44 / 94))
    assert statistics.low_complexity_hidden == 1.0
    assert statistics.rank_masked == pytest.approx(0b101010101010 / 4095)
    assert math.isclose(statistics.hidden_per_masked, 36 / 11)
