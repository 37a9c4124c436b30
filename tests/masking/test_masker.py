"""From bytes to masked batches: packing, corruption, budget on real DNA."""

import numpy as np
import pytest
import torch

from cmgems.data_modules.sampling import GenomeShare, WindowSampling
from cmgems.data_modules.windows import WindowBatch, WindowStream, collate
from cmgems.genome.spans import unambiguous_spans
from cmgems.masking.masker import Masker, MaskingPlan
from cmgems.masking.packing import ALL_MASKED
from cmgems.masking.rates import CenterRates
from cmgems.masking.strategies import STRATEGIES
from cmgems.masking.types import StrategyParams
from cmgems.tokenization import OverlappingKmers, SingleBases
from cmgems.tokenization.base import CLS, FIRST_TOKEN, MASK, SEP
from cmgems.utils.kernels import force_torch_path


@pytest.fixture(scope="module")
def masker(human_ids, human_rank):
    return Masker(
        OverlappingKmers(6), human_rank, CenterRates(human_ids, human_rank, OverlappingKmers(6))
    )


@pytest.fixture(scope="module")
def masker_of_bases(human_codes, human_rank):
    bases = SingleBases(6)
    return Masker(bases, human_rank, CenterRates(bases.encode(human_codes), human_rank, bases))


@pytest.fixture(scope="module")
def windows(genome):
    return WindowStream(
        genome.codes,
        [GenomeShare(unambiguous_spans(genome.codes))],
        WindowSampling(510, 6, 0.5),
        seed=3,
    )


def mask_of(masker, batch, name):
    ids_BK = OverlappingKmers(6).encode(batch.codes_BL)
    return masker.mask(ids_BK, ids_BK >= FIRST_TOKEN, batch.keys_B2, name)


def test_packs_tokens_between_cls_and_sep(masker, windows):
    batch = windows.batch(0, 12)
    masked = masker(batch, "random")
    original = masked.ids_T.clone().long()
    original[masked.at_M] = masked.targets_M
    first = 0
    for codes, bases, length in zip(
        batch.codes_BL, batch.bases, masked.layout.seqlens, strict=True
    ):
        sequence = original[first : first + length]
        assert sequence.tolist() == [CLS, *OverlappingKmers(6).encode(codes[:bases]).tolist(), SEP]
        assert masked.layout.position_ids[first : first + length].tolist() == list(range(length))
        first += length
    assert first == len(original)


def corrupted(masker, windows):
    """What the encoder sees at the masked positions of 3000 windows, and the true ids there."""
    seen, targets = [], []
    for first in range(0, 3000, 500):
        masked = masker(windows.batch(first, 500), "random")
        seen.append(masked.ids_T[masked.at_M])
        targets.append(masked.targets_M)
        untouched = torch.ones(len(masked.ids_T), dtype=torch.bool)
        untouched[masked.at_M] = False
        assert (masked.ids_T[untouched] != MASK).all()
    return torch.cat(seen).long(), torch.cat(targets)


def chi_square(counts, expected):
    return float(((counts - expected) ** 2 / expected).sum())


def assert_80_10_10(seen, targets, choices):
    """80 % [MASK], 10 % one of `choices` tokens at random, which may be the true one, 10 % kept."""
    kept = seen == targets
    counts = torch.stack([seen == MASK, (seen != MASK) & ~kept, kept]).double().sum(1)
    same = 0.1 / choices
    expected = torch.tensor([0.8, 0.1 - same, 0.1 + same]).double() * len(seen)
    assert chi_square(counts, expected) < 9.21  # 2 degrees of freedom, p = 0.01


def test_corrupts_80_10_10(masker, windows):
    """Chi-square against 80 % [MASK], 10 % a uniform k-mer, 10 % unchanged; seed fixed."""
    seen, targets = corrupted(masker, windows)
    assert_80_10_10(seen, targets, choices=4096)
    other = seen[(seen != MASK) & (seen != targets)]
    assert other.min() >= FIRST_TOKEN
    bins = torch.bincount((other - FIRST_TOKEN) // 64, minlength=64).double()
    assert chi_square(bins, len(other) / 64) < 92.0  # 63 degrees of freedom, p = 0.01


def test_corrupts_single_bases_80_10_10(masker_of_bases, windows):
    """Random replacements are A, T, C, G alone: of each true base the three others alike."""
    seen, targets = corrupted(masker_of_bases, windows)
    assert_80_10_10(seen, targets, choices=4)
    replaced = (seen != MASK) & (seen != targets)
    other, true = seen[replaced] - FIRST_TOKEN, targets[replaced] - FIRST_TOKEN
    assert set(other.tolist()) == set(range(4))
    pairs_44 = torch.bincount(4 * true + other, minlength=16).double().view(4, 4)
    expected_44 = (pairs_44.sum(1, keepdim=True) / 3).expand(4, 4)
    differ_44 = ~torch.eye(4, dtype=torch.bool)
    # 12 pairs less 4 totals: 8 degrees of freedom, p = 0.01
    assert chi_square(pairs_44[differ_44], expected_44[differ_44]) < 20.1


def test_a_window_is_masked_alike_in_any_batch(masker, windows):
    """A mask belongs to the window's number, not to its batch or rank."""
    together = windows.batch(0, 8)
    masks = mask_of(masker, together, "genemask")
    for number in range(8):
        alone = windows.batch(number, 1)
        row = next(r for r in range(8) if torch.equal(together.keys_B2[r], alone.keys_B2[0]))
        mask = mask_of(masker, alone, "genemask")
        assert torch.equal(mask[0], masks[row, : mask.shape[1]])


def test_never_masks_unknown_bases(masker, genome):
    codes = np.array(genome.codes[:3000])
    codes[::97] = 4
    pieces = collate(
        codes, _pieces([0, 500, 1000], 400), np.arange(6, dtype=np.int32).reshape(3, 2)
    )
    masked = masker(pieces, "global_pmi")
    assert (masked.targets_M >= FIRST_TOKEN).all()
    assert len(masked.targets_M) > 0
    assert int(masked.maskable) == int(
        (OverlappingKmers(6).encode(pieces.codes_BL) >= FIRST_TOKEN).sum()
    )


def _pieces(starts, length):
    from cmgems.data_modules.sampling import Windows

    return Windows(np.array(starts), np.full(len(starts), length, np.int32))


def test_a_batch_without_masks_is_valid(masker, genome):
    batch = WindowBatch(
        torch.from_numpy(genome.codes[None, :6].copy()), (6,), torch.zeros(1, 2).int()
    )
    masked = masker(batch, "random")
    assert len(masked.ids_T) == 3
    assert int(masked.maskable) == 1


@pytest.mark.parametrize("name", STRATEGIES)
def test_both_paths_give_the_same_batch(name, masker, windows):
    batch = windows.batch(0, 40)
    compiled = masker(batch, name)
    with force_torch_path():
        other = masker(batch, name)
    assert len(compiled.at_M) > 1000
    for field in ("ids_T", "at_M", "targets_M", "mask_BK", "maskable_BK", "counts_S2"):
        one, two = getattr(compiled, field), getattr(other, field)
        assert one.dtype == two.dtype, field
        assert torch.equal(one, two), field
    assert compiled.layout.seqlens == other.layout.seqlens
    assert torch.equal(compiled.layout.position_ids, other.layout.position_ids)


def test_all_masked_shows_nothing_that_is_masked(masker, windows):
    batch = windows.batch(0, 40)
    masked, usual = masker(batch, "random_wide", ALL_MASKED), masker(batch, "random_wide")
    assert torch.equal(masked.at_M, usual.at_M)
    assert (masked.ids_T[masked.at_M] == MASK).all()


def test_mixing_by_sequence(masker, windows):
    """Each sequence is masked by one of the two as if alone; fractions and counts are right."""
    batch = windows.batch(0, 1000)
    one, two = (mask_of(masker, batch, name) for name in ("random", "global_pmi"))
    differ = (one != two).any(1)
    for probability in (0.0, 0.3, 1.0):
        mixed = masker(batch, MaskingPlan(("random", "global_pmi"), probability))
        second = (mixed.mask_BK == two).all(1) & differ
        assert ((mixed.mask_BK == one).all(1) | second).all()
        assert second.sum() / differ.sum() == pytest.approx(probability, abs=0.05)
        assert mixed.counts_S2.sum(0).tolist() == [len(mixed.at_M), int(mixed.maskable_BK.sum())]
    assert mixed.counts_S2[0].tolist() == [0, 0]


def test_params_of_a_plan(masker, windows):
    """Mask fraction and span width move what is masked; the budget follows."""
    batch = windows.batch(0, 1000)
    for fraction, width in ((0.15, 2.0), (0.15, 8.0), (0.4, 3.8)):
        masked = masker(batch, MaskingPlan(("span",), params=StrategyParams(fraction, width)))
        assert len(masked.at_M) / int(masked.maskable) == pytest.approx(fraction, abs=0.01)
    runs = []
    for width in (2.0, 8.0):
        mask = masker(batch, MaskingPlan(("span",), params=StrategyParams(0.05, width))).mask_BK
        starts = mask.clone()
        starts[:, 1:] &= ~mask[:, :-1]
        runs.append(int(mask.sum()) / int(starts.sum()))
    # k - 1 tokens more than hidden bases; overlaps and ends change a little
    assert runs == [pytest.approx(2.0 + 5, abs=1.0), pytest.approx(8.0 + 5, abs=1.5)]
