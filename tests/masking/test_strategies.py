"""Masks: against the slow references, and the properties that the authors' released code lacks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references.masking import REFERENCES, Adjacent, Bases, Kmers, draw, drawn_centers, rank_table

from cmgems.masking.ops import draw_centers
from cmgems.masking.strategies import READS_RANKS, STRATEGIES
from cmgems.masking.strategies.pmi_ranked import _permutation
from cmgems.masking.types import CENTERS, RankTables, StrategyInput, StrategyParams
from cmgems.tokenization import NonOverlappingKmers, OverlappingKmers, SingleBases
from cmgems.tokenization.base import FIRST_TOKEN, UNK
from cmgems.utils.kernels import force_torch_path
from cmgems.utils.rng import derive_key, sequence_keys

KMERS, BASES, ADJACENT = OverlappingKmers(6), SingleBases(6), NonOverlappingKmers(6)
SLOW = {OverlappingKmers: Kmers, SingleBases: Bases, NonOverlappingKmers: Adjacent}
PMI_STRATEGIES = ("genemask", "global_pmi", "shuffled_pmi", "inverse_pmi", "soft_pmi")
RANDOM_STRATEGIES = ("uniform", "random", "random_wide", "span")
STATIC_STRATEGIES = ("global_pmi", "shuffled_pmi", "inverse_pmi")


def all_different(rank_V):
    """Tables of which a strategy has to read the right one; PMI's is the one given."""
    return RankTables(*(rank_V.roll(shift) for shift in range(4)))


def tokens_of(ids_BK, rank_V, tokenization=KMERS, rate=0.02, seed=0, position_offset=0, **others):
    keys_B2 = torch.from_numpy(sequence_keys(derive_key(seed, "masks"), np.arange(len(ids_BK))))
    maskable_BK = tokenization.is_maskable(ids_BK)
    rate_B1 = torch.full((len(ids_BK), 1), rate)
    centers_BK = draw_centers(maskable_BK, keys_B2, rate_B1, CENTERS, position_offset)
    ranks = all_different(rank_V)
    tokens = StrategyInput(tokenization, ids_BK, maskable_BK, centers_BK, keys_B2, ranks)
    return tokens._replace(position_offset=position_offset, **others)


def unknown_of(tokenization):
    """What unknown bases become: [UNK] or N."""
    return int(tokenization.encode(torch.full((6,), 4, dtype=torch.uint8))[0])


def with_unknown(ids_BK, unknown=UNK, seed=0):
    """A few runs of unknown tokens, and padding at the right of some rows."""
    generator = torch.Generator().manual_seed(seed)
    ids_BK = ids_BK.clone()
    for row in range(len(ids_BK)):
        start = int(torch.randint(0, ids_BK.shape[1] - 8, (), generator=generator))
        ids_BK[row, start : start + row % 8] = unknown
        if row % 3 == 0:
            ids_BK[row, ids_BK.shape[1] - row % 40 :] = 0
    return ids_BK


def positions(mask_K):
    return set(mask_K.nonzero()[:, 0].tolist())


def reference_mask(name, tokens, row, rate):
    """What the slow reference masks in one row; it draws its centres itself."""
    rank_V = getattr(tokens.ranks, READS_RANKS.get(name, "pmi_V"))
    if name == "shuffled_pmi":
        rank_V = rank_V[_permutation(len(rank_V), rank_V.device)]
    key = [int(word) % 2**32 for word in tokens.keys_B2[row]]
    ids = tokens.ids_BK[row].tolist()
    tok = SLOW[type(tokens.tokenization)](tokens.tokenization.k)
    centres = drawn_centers(ids, tok, key, float(np.float32(rate)))
    return REFERENCES[name](ids, centres, rank_V.tolist(), tok, key, tokens.params)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("rate", [0.005, 0.02, 0.1])
@pytest.mark.parametrize("k", [3, 4, 5, 6])
@pytest.mark.parametrize("kind", SLOW)
def test_equals_the_slow_reference(name, rate, k, kind, human_codes):
    tokenization = kind(k)
    ids_BK = with_unknown(tokenization.encode(human_codes[:20]), unknown_of(tokenization))
    rank_V = torch.tensor(rank_table(k, seed=k), dtype=torch.int32)
    tokens = tokens_of(ids_BK, rank_V, tokenization, rate, params=StrategyParams(0.15, 2.5, 0.2))
    mask_BK = STRATEGIES[name](tokens)
    for row in range(len(ids_BK)):
        assert positions(mask_BK[row]) == reference_mask(name, tokens, row, rate)


@st.composite
def batches(draw_):
    """Short sequences of few different tokens (equal ranks are the hard case), with unknown."""
    tokenization = draw_(st.sampled_from(list(SLOW)))(draw_(st.sampled_from([3, 6])))
    width = draw_(st.integers(1, 40))
    several = min(draw_(st.integers(1, 30)), tokenization.replacements)
    tokens = st.sampled_from(
        [unknown_of(tokenization), 0, *range(FIRST_TOKEN, FIRST_TOKEN + several)]
    )
    rows = draw_(st.lists(st.lists(tokens, min_size=width, max_size=width), min_size=1, max_size=4))
    rate = draw_(st.sampled_from([0.0, 0.03, 0.2, 0.7, 1.0]))
    tuned = StrategyParams(0.15, draw_(st.floats(1, 9)), draw_(st.sampled_from([0.001, 0.1, 10.0])))
    return (
        tokenization,
        torch.tensor(rows, dtype=torch.int32),
        rate,
        tuned,
        draw_(st.integers(0, 10**6)),
    )


@pytest.mark.parametrize("name", STRATEGIES)
@given(batches())
@settings(max_examples=40, deadline=None)
def test_both_paths_equal_the_slow_reference(name, batch):
    tokenization, ids_BK, rate, tuned, seed = batch
    rank_V = torch.tensor(rank_table(tokenization.k, seed), dtype=torch.int32)
    tokens = tokens_of(ids_BK, rank_V, tokenization, rate, seed, params=tuned)
    compiled_BK = STRATEGIES[name](tokens)
    with force_torch_path():
        again = tokens_of(ids_BK, rank_V, tokenization, rate, seed, params=tuned)
        assert torch.equal(again.centers_BK, tokens.centers_BK)
        assert torch.equal(STRATEGIES[name](again), compiled_BK)
    for row in range(len(ids_BK)):
        assert positions(compiled_BK[row]) == reference_mask(name, tokens, row, rate)


def test_draws_equal_the_slow_reference():
    from cmgems.utils.rng import random_bits

    keys_B2 = torch.from_numpy(sequence_keys(derive_key(3, "masks"), np.arange(3)))
    for row in range(3):
        key = [int(word) % 2**32 for word in keys_B2[row]]
        drawn = random_bits(keys_B2[row], torch.arange(50, dtype=torch.int32), 4, bits=31)
        assert drawn.tolist() == [draw(key, p, 4) % 2**31 for p in range(50)]


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("tokenization", [KMERS, BASES, ADJACENT], ids=repr)
def test_moves_with_the_sequence(name, tokenization, human_codes, human_rank):
    """The defect of the released code: its mask stays where it is, whatever the sequence.

    The sequence lies between stretches of unknown tokens; both and the draws are moved together.
    """
    inner_BK, unknown = tokenization.encode(human_codes[:100])[:, :300], unknown_of(tokenization)
    width, rate = inner_BK.shape[1], 0.02 if inner_BK.shape[1] == 300 else 0.12
    masks = []
    for left in (0, 7, 90):
        ids_BK = torch.nn.functional.pad(inner_BK, (left, 90 - left), value=unknown)
        tokens = tokens_of(ids_BK, human_rank, tokenization, rate, position_offset=-left)
        masks.append(STRATEGIES[name](tokens)[:, left : left + width])
    assert masks[0].any(1).float().mean() > 0.9
    assert torch.equal(masks[1], masks[0])
    assert torch.equal(masks[2], masks[0])


@pytest.mark.parametrize("name", PMI_STRATEGIES)
@pytest.mark.parametrize("tokenization", [KMERS, BASES], ids=repr)
def test_depends_on_the_sequence(name, tokenization, human_codes, human_rank):
    one, other = tokenization.encode(human_codes[:200]).split(100)
    tokens = tokens_of(one, human_rank, tokenization)
    masks = STRATEGIES[name](tokens), STRATEGIES[name](tokens._replace(ids_BK=other))
    changed = (masks[0] != masks[1]).any(1) & tokens.centers_BK.any(1)
    assert changed.sum() == tokens.centers_BK.any(1).sum()


@pytest.mark.parametrize("name", PMI_STRATEGIES)
@pytest.mark.parametrize("tokenization", [KMERS, BASES], ids=repr)
def test_depends_on_the_rank_table(name, tokenization, human_codes, human_rank):
    tokens = tokens_of(tokenization.encode(human_codes[:100]), human_rank, tokenization)
    permuted = human_rank[torch.randperm(4096, generator=torch.Generator().manual_seed(1))]
    masks = (
        STRATEGIES[name](tokens),
        STRATEGIES[name](tokens._replace(ranks=all_different(permuted))),
    )
    assert (masks[0] != masks[1]).any(1).float().mean() > 0.95


@pytest.mark.parametrize("name", RANDOM_STRATEGIES)
@pytest.mark.parametrize("tokenization", [KMERS, BASES], ids=repr)
def test_random_masks_do_not_depend_on_content(name, tokenization, human_codes, human_rank):
    ids_BK = tokenization.encode(human_codes[:200])
    tokens = tokens_of(ids_BK[:100], human_rank, tokenization)
    other = tokens._replace(ids_BK=ids_BK[100:], ranks=all_different(human_rank.flip(0)))
    assert torch.equal(STRATEGIES[name](tokens), STRATEGIES[name](other))


def test_global_pmi_masks_the_best_ranked(human_ids, human_rank):
    """The n best tokens are masked, and all that is masked lies within their windows."""
    tokens = tokens_of(human_ids[:50], human_rank)
    mask_BK = STRATEGIES["global_pmi"](tokens)
    for ids, centres, mask in zip(tokens.ids_BK, tokens.centers_BK, mask_BK, strict=True):
        best = human_rank[ids - FIRST_TOKEN].argsort(stable=True)[: int(centres.sum())]
        assert mask[best].all()
        for position in mask.nonzero()[:, 0]:
            assert (best - position).abs().min() <= 5


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("tokenization", [KMERS, BASES, ADJACENT], ids=repr)
def test_batch_and_padding_change_nothing(name, tokenization, human_codes, human_rank):
    tokens = tokens_of(tokenization.encode(human_codes[:20]), human_rank, tokenization)
    together = STRATEGIES[name](tokens)
    for row in range(20):
        part = slice(row, row + 1)
        padded = [
            torch.nn.functional.pad(whole[part], (0, row))
            for whole in (tokens.ids_BK, tokens.maskable_BK, tokens.centers_BK)
        ]
        alone = tokens._replace(
            ids_BK=padded[0],
            maskable_BK=padded[1],
            centers_BK=padded[2],
            keys_B2=tokens.keys_B2[part],
        )
        mask = STRATEGIES[name](alone)
        assert torch.equal(mask[0, : together.shape[1]], together[row])
        assert not mask[0, together.shape[1] :].any()


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("tokenization", [KMERS, BASES, ADJACENT], ids=repr)
def test_no_centre_no_mask_and_nothing_special_is_masked(
    name, tokenization, human_codes, human_rank
):
    unknown = unknown_of(tokenization)
    ids_BK = with_unknown(tokenization.encode(human_codes[:60]), unknown)
    assert not STRATEGIES[name](tokens_of(ids_BK, human_rank, tokenization, rate=0.0)).any()
    everything = STRATEGIES[name](tokens_of(ids_BK, human_rank, tokenization, rate=1.0))
    maskable_BK = (ids_BK >= FIRST_TOKEN) & (ids_BK != unknown)
    if name == "genemask" and tokenization == ADJACENT:  # it masks a neighbour in place of a centre
        assert not (everything & ~maskable_BK).any()
    else:
        assert torch.equal(everything, maskable_BK)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("tokenization", [KMERS, BASES, ADJACENT], ids=repr)
def test_empty_and_one_token(name, tokenization, human_rank):
    empty = tokens_of(torch.empty((2, 0), dtype=torch.int32), human_rank, tokenization)
    with force_torch_path():
        assert STRATEGIES[name](empty).shape == (2, 0)
    assert STRATEGIES[name](empty).shape == (2, 0)
    one_BK = torch.full((2, 1), FIRST_TOKEN, dtype=torch.int32)
    tokens = tokens_of(one_BK, human_rank, tokenization)
    tokens = tokens._replace(centers_BK=torch.tensor([[True], [False]]))
    assert STRATEGIES[name](tokens).tolist() == [[True], [False]]


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("tokenization", [KMERS, BASES, ADJACENT], ids=repr)
def test_traces_as_one_graph_and_once(name, tokenization, human_codes, human_rank):
    """The tensor code neither waits for the device nor is recompiled at another rate."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    traced = torch.compile(STRATEGIES[name], backend=backend, fullgraph=True)
    for rate in (0.01, 0.02, 0.03):
        tokens = tokens_of(tokenization.encode(human_codes[:8]), human_rank, tokenization, rate)
        assert torch.equal(traced(tokens), STRATEGIES[name](tokens))
    assert len(graphs) == 1


def test_shuffled_pmi_is_a_permutation():
    permutation = _permutation(4096, torch.device("cpu"))
    assert sorted(permutation.tolist()) == list(range(4096))
    assert (permutation == torch.arange(4096)).sum() < 10
    assert torch.equal(permutation, _permutation.__wrapped__(4096, torch.device("cpu")))


@pytest.mark.parametrize(("temperature", "like"), [(0.001, "global_pmi"), (1000.0, "random_wide")])
def test_soft_pmi_lies_between_global_and_random(temperature, like, human_ids, human_rank):
    """By the mean rank of the centres of masked windows, at both ends of the temperature."""
    tokens = tokens_of(human_ids, human_rank)
    rank_BK = human_rank[tokens.ids_BK - FIRST_TOKEN].float()

    def mean_rank(name, **tuned):
        mask_BK = STRATEGIES[name](tokens._replace(params=StrategyParams(**tuned)))
        return float(rank_BK[mask_BK].mean())

    assert mean_rank("soft_pmi", temperature=temperature) == pytest.approx(
        mean_rank(like), rel=0.02
    )
    by_temperature = [mean_rank("soft_pmi", temperature=t) for t in (0.001, 0.05, 0.2, 1.0, 1000.0)]
    assert by_temperature == sorted(by_temperature)


@pytest.mark.parametrize("name", ["soft_pmi", *STATIC_STRATEGIES])
def test_only_soft_pmi_varies_its_positions(name, human_ids, human_rank):
    """Static selection masks the best position of a sequence in every draw that has a centre."""
    ids_BK = human_ids[:1].expand(300, -1).contiguous()
    frequency_K = STRATEGIES[name](tokens_of(ids_BK, human_rank)).float().mean(0)
    if name == "soft_pmi":
        assert 0.3 < frequency_K.max() < 0.75
        assert (frequency_K > 0.01).float().mean() > 0.95
    else:
        assert frequency_K.max() > 0.99
        assert (frequency_K == 0).float().mean() > 0.3


def test_span_lengths_have_their_mean():
    from cmgems.masking.strategies.random_spans import span_lengths

    for mean in (1.0, 2.5, 3.8, 20.0):
        lengths = span_lengths(mean, torch.device("cpu")).double()
        assert float(lengths.mean()) == pytest.approx(mean, rel=0.005)
        assert lengths.min() == 1
        assert lengths.max() <= round(10 / 3.8 * mean)


@pytest.mark.parametrize("name", STRATEGIES)
def test_how_a_batch_lies_in_memory_changes_nothing(name, human_ids, human_rank):
    tokens = tokens_of(human_ids[:20], human_rank)
    turned = tokens_of(human_ids[:20].T.contiguous().T, human_rank)
    assert not turned.ids_BK.is_contiguous()
    assert torch.equal(STRATEGIES[name](turned), STRATEGIES[name](tokens))
