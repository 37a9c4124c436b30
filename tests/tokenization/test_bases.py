"""Single bases as tokens: ids, what a mask hides, and the k-mers that rank bases."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems.genome.alphabet import encode_bases
from cmgems.tokenization import OverlappingKmers, SingleBases
from cmgems.tokenization.base import FIRST_TOKEN, MASK, UNK
from cmgems.tokenization.hf import fast_tokenizer
from cmgems.tokenization.hidden import mask_exposure
from cmgems.utils.kernels import force_torch_path

BASES = SingleBases(6)
dna = st.text("ACGTacgtNRY-", max_size=40)


@given(dna.filter(len))
@settings(max_examples=100, deadline=None)
def test_ids_are_those_of_the_vocabulary(text):
    codes = torch.from_numpy(encode_bases(text))
    ids = BASES.encode(codes)
    wanted = [BASES.vocabulary.index(x if x in "ACGT" else "N") for x in text.upper()]
    assert ids.tolist() == wanted
    assert ids.dtype == torch.int32
    assert BASES.is_maskable(ids).tolist() == [x in "ACGT" for x in text.upper()]
    assert len(ids) == BASES.content_tokens(len(text)) == BASES.num_tokens(len(text)) - 2


def test_sizes():
    assert BASES.vocab_size == len(BASES.vocabulary) == 10
    assert BASES.num_tokens(510) == 512
    assert BASES.max_bases(512) == 510
    with pytest.raises(ValueError, match="no base"):
        BASES.encode(torch.empty(0, dtype=torch.uint8))


@given(dna, st.sampled_from([3, 4, 5, 6]))
@settings(max_examples=150, deadline=None)
def test_a_base_is_ranked_by_the_kmer_around_it(text, k):
    """On both paths: the k-mer of which it is the base number (k + 1) // 2, none at ends and N."""
    codes = torch.from_numpy(encode_bases(text))
    ids_BK = (codes.int() + FIRST_TOKEN)[None]
    kmers = SingleBases(k).kmer_ids(ids_BK)[0].tolist()
    with force_torch_path():
        assert SingleBases(k).kmer_ids(ids_BK)[0].tolist() == kmers
    vocabulary = {token: id_ for id_, token in enumerate(OverlappingKmers(k).vocabulary)}
    for position, id_ in enumerate(kmers):
        first = position - (k - 1) // 2
        kmer = text.upper()[max(first, 0) : first + k]
        assert id_ == vocabulary.get(kmer if first >= 0 else "", UNK)


def test_a_wide_window_masks_the_kmer_that_ranks_its_center():
    first, last = BASES.windows.wide
    assert (first, last) == (-2, 3)
    for k in (3, 4, 5, 6):
        windows = SingleBases(k).windows
        assert windows.wide[1] - windows.wide[0] + 1 == k
        # a wide window around whatever `genemask` finds masks the center as well
        assert windows.search[0] + windows.wide[1] == 0 == windows.search[1] + windows.wide[0]


def test_every_masked_base_is_hidden_and_none_is_copied():
    mask = torch.tensor([[False, True, True, False, True]])
    exposure = mask_exposure(BASES, mask)
    assert torch.equal(exposure.hidden_BL, mask)
    assert (exposure.masked, exposure.copyable, exposure.hidden_bases) == (3, 0, 3)
    assert exposure.hidden_per_masked == 1.0


def test_base_probabilities_are_those_of_the_tokens():
    mask_BK = torch.tensor([[False, True, True], [True, False, True]])
    wanted_BL = torch.tensor([[False, False, True], [True, False, False]])
    logits_MV = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    logits_MV[:, :FIRST_TOKEN] = logits_MV[:, 9] = 50.0  # special tokens and N are no answer
    probabilities_H4 = BASES.base_probabilities(logits_MV, mask_BK, wanted_BL)
    assert torch.allclose(probabilities_H4, logits_MV[[1, 2], 5:9].softmax(1))


def test_losses_are_counted_for_the_kmers_of_the_true_bases():
    """Masked, replaced and kept bases, and a position that does not count."""
    codes = np.random.default_rng(0).integers(0, 4, 30).astype(np.uint8)
    true_T = torch.cat(
        [torch.tensor([2]), BASES.encode(torch.from_numpy(codes)), torch.tensor([3])]
    )
    positions_M = torch.tensor([2, 10, 11, 20, 25])
    seen_T = true_T.clone().int()
    seen_T[[2, 10]] = MASK
    seen_T[11] = FIRST_TOKEN + (true_T[11] - FIRST_TOKEN + 1) % 4
    targets_M = true_T[positions_M].long()
    targets_M[4] = -100
    kmers_M = BASES.target_kmers(seen_T, positions_M, targets_M)
    kmers = OverlappingKmers(6).encode(torch.from_numpy(codes)) - FIRST_TOKEN
    # position p is base p - 1, its k-mer begins two before it
    assert kmers_M[1:4].tolist() == [int(kmers[p - 3]) for p in (10, 11, 20)]
    assert kmers_M[0] < 0  # cut off by the beginning
    assert kmers_M[4] < 0


def test_unigram_counts_are_those_of_bases():
    codes = torch.from_numpy(np.random.default_rng(1).integers(0, 4, 500).astype(np.uint8))
    kmers = OverlappingKmers(3).encode(codes).long() - FIRST_TOKEN
    counts = np.bincount(kmers.numpy(), minlength=64)
    assert (
        SingleBases(3).unigram_counts(counts).tolist() == codes[:-2].bincount(minlength=4).tolist()
    )


@given(dna)
@settings(max_examples=50, deadline=None)
def test_the_tokenizer_reads_plain_dna(text):
    """In either case; everything that is no base is N."""
    codes = torch.from_numpy(encode_bases(text))
    ids = fast_tokenizer(BASES).encode(text).ids
    assert ids[1:-1] == (codes.int() + FIRST_TOKEN).tolist()
    assert (ids[0], ids[-1]) == (2, 3)


def test_the_tokenizer_knows_masks():
    assert fast_tokenizer(BASES).encode("AC[MASK][MASK]t").ids == [2, 5, 7, MASK, MASK, 6, 3]
