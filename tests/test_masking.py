"""Masks: against the slow references, and the properties that the authors' released code lacks."""

import math

import pytest
import torch
from reference_masking import REFERENCES

from cmgems.draws import sequence_keys, stream, uniforms
from cmgems.kmers import FIRST_KMER, UNK
from cmgems.masking import STRATEGIES
from cmgems.masking.tokens import Tokens

PMI_STRATEGIES = ("genemask", "global_pmi")


def tokens_of(ids_BT, rank_V, k=6, rate=0.02, uniform_BT=None, seed=0):
    import numpy as np

    rows, width = ids_BT.shape
    if uniform_BT is None:
        keys = torch.from_numpy(sequence_keys(stream(seed, "masks"), np.arange(rows)))
        uniform_BT = uniforms(keys[:, None], torch.arange(width, dtype=torch.int32), 0)
    return Tokens(k, ids_BT, ids_BT >= FIRST_KMER, uniform_BT, torch.full((rows, 1), rate), rank_V)


def with_unknown(ids_BT, seed=0):
    """A few [UNK] runs, and padding at the right of some rows."""
    generator = torch.Generator().manual_seed(seed)
    ids_BT = ids_BT.clone()
    for row in range(len(ids_BT)):
        start = int(torch.randint(0, ids_BT.shape[1] - 8, (), generator=generator))
        ids_BT[row, start : start + row % 8] = UNK
        if row % 3 == 0:
            ids_BT[row, ids_BT.shape[1] - row % 40 :] = 0
    return ids_BT


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("rate", [0.005, 0.02, 0.1])
@pytest.mark.parametrize("k", [3, 4, 5, 6])
def test_equals_the_slow_reference(name, rate, k, human_ids):
    ids_BT = with_unknown(human_ids[:60]).clamp(max=FIRST_KMER + 4**k - 1)
    rank_V = torch.randperm(4**k, generator=torch.Generator().manual_seed(k)).int() + 1
    tokens = tokens_of(ids_BT, rank_V, k, rate)
    mask_BT = STRATEGIES[name](tokens)
    for row in range(len(ids_BT)):
        centres = tokens.centres_BT[row].nonzero()[:, 0].tolist()
        wanted = REFERENCES[name](ids_BT[row].tolist(), centres, rank_V.tolist(), k)
        assert set(mask_BT[row].nonzero()[:, 0].tolist()) == wanted


@pytest.mark.parametrize("name", STRATEGIES)
def test_moves_with_the_sequence(name, human_ids, human_rank):
    """The defect of the released code: its mask stays where it is, whatever the sequence."""
    shift, margin = 7, 40
    ids_BT = human_ids[:200]
    uniform_BT = torch.rand(ids_BT.shape, generator=torch.Generator().manual_seed(0))
    # Draws in the middle alone: what happens at the ends does not shift.
    uniform_BT[:, :margin] = uniform_BT[:, -margin:] = 1.0
    here = STRATEGIES[name](tokens_of(ids_BT, human_rank, uniform_BT=uniform_BT))
    moved = tokens_of(ids_BT.roll(shift, 1), human_rank, uniform_BT=uniform_BT.roll(shift, 1))
    there = STRATEGIES[name](moved)
    # Sequences whose ends hold nothing that could be selected, by rank or by an equal k-mer.
    rank_BT = human_rank[ids_BT - FIRST_KMER]
    drawn_B = (uniform_BT < 0.02).sum(1)
    worst_B = rank_BT.sort(1).values.gather(1, (drawn_B - 1).clamp(min=0)[:, None])
    ends_BT = torch.cat([rank_BT[:, :15], rank_BT[:, -15:]], dim=1)
    inside = (drawn_B > 0) & (ends_BT > worst_B).all(1)
    assert inside.sum() > 50
    assert torch.equal(there[inside], here[inside].roll(shift, 1))


@pytest.mark.parametrize("name", PMI_STRATEGIES)
def test_depends_on_the_sequence(name, human_ids, human_rank):
    one, other = human_ids[:100], human_ids[100:200]
    tokens = tokens_of(one, human_rank)
    masks = STRATEGIES[name](tokens), STRATEGIES[name](tokens._replace(ids_BT=other))
    changed = (masks[0] != masks[1]).any(1) & tokens.centres_BT.any(1)
    assert changed.sum() == tokens.centres_BT.any(1).sum()


@pytest.mark.parametrize("name", PMI_STRATEGIES)
def test_depends_on_the_rank_table(name, human_ids, human_rank):
    tokens = tokens_of(human_ids[:100], human_rank)
    permuted = human_rank[torch.randperm(4096, generator=torch.Generator().manual_seed(1))]
    masks = STRATEGIES[name](tokens), STRATEGIES[name](tokens._replace(rank_V=permuted))
    assert (masks[0] != masks[1]).any(1).float().mean() > 0.95


@pytest.mark.parametrize("name", ["random", "random_wide"])
def test_random_places_do_not_depend_on_content(name, human_ids, human_rank):
    tokens = tokens_of(human_ids[:100], human_rank)
    other = tokens._replace(ids_BT=human_ids[100:200], rank_V=human_rank.flip(0))
    assert torch.equal(STRATEGIES[name](tokens), STRATEGIES[name](other))


def test_global_pmi_masks_the_best_ranked(human_ids, human_rank):
    """The n best tokens are masked, and all that is masked lies within their windows."""
    tokens = tokens_of(human_ids[:50], human_rank)
    mask_BT = STRATEGIES["global_pmi"](tokens)
    for ids, centres, mask in zip(tokens.ids_BT, tokens.centres_BT, mask_BT, strict=True):
        best = human_rank[ids - FIRST_KMER].argsort(stable=True)[: int(centres.sum())]
        assert mask[best].all()
        for place in mask.nonzero()[:, 0]:
            assert (best - place).abs().min() <= 5


@pytest.mark.parametrize("name", STRATEGIES)
def test_batch_and_padding_change_nothing(name, human_ids, human_rank):
    tokens = tokens_of(human_ids[:20], human_rank)
    together = STRATEGIES[name](tokens)
    for row in range(20):
        alone = tokens_of(human_ids[:20], human_rank)
        alone = alone._replace(
            ids_BT=torch.nn.functional.pad(alone.ids_BT[row : row + 1], (0, row)),
            maskable_BT=torch.nn.functional.pad(alone.maskable_BT[row : row + 1], (0, row)),
            uniform_BT=torch.nn.functional.pad(alone.uniform_BT[row : row + 1], (0, row)),
            rate_B1=alone.rate_B1[row : row + 1],
        )
        mask = STRATEGIES[name](alone)
        assert torch.equal(mask[0, : together.shape[1]], together[row])
        assert not mask[0, together.shape[1] :].any()


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_centre_no_mask_and_nothing_special_is_masked(name, human_ids, human_rank):
    ids_BT = with_unknown(human_ids[:60])
    assert not STRATEGIES[name](tokens_of(ids_BT, human_rank, rate=0.0)).any()
    everything = STRATEGIES[name](tokens_of(ids_BT, human_rank, rate=1.0))
    assert torch.equal(everything, ids_BT >= FIRST_KMER)


@pytest.mark.parametrize("name", STRATEGIES)
def test_one_token(name, human_rank):
    ids_BT = torch.full((2, 1), FIRST_KMER, dtype=torch.int32)
    tokens = tokens_of(ids_BT, human_rank, uniform_BT=torch.tensor([[0.0], [0.9]]))
    assert STRATEGIES[name](tokens).tolist() == [[True], [False]]


def expected_share_of_random(rate, length, k=6):
    """Mean over places of 1 - (1 - rate) ** (centres whose window covers the place)."""
    covering = [min(p + 2, length - 1) - max(p - 3, 0) + 1 for p in range(length)]
    return sum(1 - (1 - rate) ** c for c in covering) / length


@pytest.mark.parametrize("length", [6, 20, 64, 200, 505])
def test_solved_rate_of_random_is_the_analytic_one(length, human_ids, human_rank):
    from cmgems.masking.budget import solve_rates

    rates = solve_rates(STRATEGIES["random"], human_ids, human_rank, 6, 0.15)
    assert expected_share_of_random(float(rates[length]), length) == pytest.approx(0.15, abs=0.004)


def test_binomial():
    from cmgems.masking.budget import binomial

    for trials, rate in ((1, 0.3), (5, 0.0), (5, 1.0), (12, 0.15)):
        wanted = [
            math.comb(trials, n) * rate**n * (1 - rate) ** (trials - n) for n in range(trials + 1)
        ]
        assert binomial(trials, rate) == pytest.approx(wanted, abs=1e-12)
