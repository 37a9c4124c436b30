"""From bytes to masked batches: packing, corruption, budget on real DNA."""

import numpy as np
import pytest
import torch

from cmgems.config import Masking
from cmgems.kmers import CLS, FIRST_KMER, MASK, SEP, token_ids
from cmgems.masking import STRATEGIES
from cmgems.masking.masker import Masker, centre_rates
from cmgems.windows import Cut, WindowBatch, WindowStream, gather, unambiguous_spans


@pytest.fixture(scope="module")
def masker(human_ids, human_rank):
    rates = centre_rates(Masking(), set(STRATEGIES), human_ids, human_rank, 6)
    return Masker(6, human_rank, rates)


@pytest.fixture(scope="module")
def windows(genome):
    return WindowStream(genome.codes, unambiguous_spans(genome.codes), Cut(510, 6, 0.5), seed=3)


@pytest.mark.parametrize("name", STRATEGIES)
def test_masks_the_wanted_share_of_human_dna(name, masker, windows):
    """0.15 +- 0.005 of the tokens, over DNABERT's mix of lengths, at windows unseen in solving."""
    masked = maskable = 0
    for first in range(0, 6000, 500):
        batch = masker(windows.batch(first, 500), name)
        masked, maskable = masked + len(batch.at_M), maskable + int(batch.maskable)
    assert masked / maskable == pytest.approx(0.15, abs=0.005)


def test_paper_rates(human_ids, human_rank):
    """0.15 / 6, 0.15 / 8.5 and 0.15 / 11 for k = 6."""
    rates = centre_rates(Masking(center_rate="paper"), set(STRATEGIES), human_ids, human_rank, 6)
    assert float(rates["random"][300]) == pytest.approx(0.025)
    assert float(rates["genemask"][300]) == pytest.approx(0.15 / 8.5)
    assert float(rates["global_pmi"][300]) == pytest.approx(0.15 / 11)


def test_packs_tokens_between_cls_and_sep(masker, windows):
    batch = windows.batch(0, 12)
    masked = masker(batch, "random")
    original = masked.ids_T.clone().long()
    original[masked.at_M] = masked.targets_M
    first = 0
    for codes, bases, length in zip(
        batch.codes_BL, batch.bases, masked.layout.lengths, strict=True
    ):
        sequence = original[first : first + length]
        assert sequence.tolist() == [CLS, *token_ids(codes[:bases], 6).tolist(), SEP]
        assert masked.layout.positions_T[first : first + length].tolist() == list(range(length))
        first += length
    assert first == len(original)


def test_corrupts_80_10_10(masker, windows):
    """Chi-square against 80 % [MASK], 10 % a uniform k-mer, 10 % unchanged; seed fixed."""
    seen, targets = [], []
    for first in range(0, 3000, 500):
        masked = masker(windows.batch(first, 500), "random")
        seen.append(masked.ids_T[masked.at_M])
        targets.append(masked.targets_M)
        untouched = torch.ones(len(masked.ids_T), dtype=torch.bool)
        untouched[masked.at_M] = False
        assert (masked.ids_T[untouched] != MASK).all()
    seen, targets = torch.cat(seen), torch.cat(targets)
    replaced = (seen != MASK) & (seen != targets)
    counts = torch.stack([(seen == MASK).sum(), replaced.sum(), (seen == targets).sum()]).double()
    # a random k-mer is the true one once in 4096 times
    expected = torch.tensor([0.8, 0.1 * 4095 / 4096, 0.1 + 0.1 / 4096]) * len(seen)
    assert ((counts - expected) ** 2 / expected).sum() < 9.21  # 2 degrees of freedom, p = 0.01
    other = seen[replaced]
    assert other.min() >= FIRST_KMER
    bins = torch.bincount((other - FIRST_KMER).long() // 64, minlength=64).double()
    wanted = len(other) / 64
    assert ((bins - wanted) ** 2 / wanted).sum() < 92.0  # 63 degrees of freedom, p = 0.01


def test_a_window_is_masked_alike_in_any_batch(masker, windows):
    """A mask belongs to the window's number, not to its batch or rank."""
    together = windows.batch(0, 8)
    masks, _ = masker.mask(token_ids(together.codes_BL, 6), together.keys_B2, "genemask")
    for number in range(8):
        alone = windows.batch(number, 1)
        row = next(r for r in range(8) if torch.equal(together.keys_B2[r], alone.keys_B2[0]))
        mask, _ = masker.mask(token_ids(alone.codes_BL, 6), alone.keys_B2, "genemask")
        assert torch.equal(mask[0], masks[row, : mask.shape[1]])


def test_never_masks_unknown_bases(masker, genome):
    codes = np.array(genome.codes[:3000])
    codes[::97] = 4
    pieces = gather(codes, _pieces([0, 500, 1000], 400), np.arange(6, dtype=np.int32).reshape(3, 2))
    masked = masker(pieces, "global_pmi")
    assert (masked.targets_M >= FIRST_KMER).all()
    assert len(masked.targets_M) > 0
    assert int(masked.maskable) == int((token_ids(pieces.codes_BL, 6) >= FIRST_KMER).sum())


def _pieces(starts, length):
    from cmgems.windows import Pieces

    return Pieces(np.array(starts), np.full(len(starts), length, np.int32))


def test_a_batch_without_masks_is_valid(masker, genome):
    batch = WindowBatch(
        torch.from_numpy(genome.codes[None, :6].copy()), (6,), torch.zeros(1, 2).int()
    )
    masked = masker(batch, "random")
    assert len(masked.ids_T) == 3
    assert int(masked.maskable) == 1
