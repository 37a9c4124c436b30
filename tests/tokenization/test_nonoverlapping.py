"""Non-overlapping k-mers: ids against the published rule, what a mask hides, what ranks a token."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems.data_modules.windows import WindowBatch, with_tokens
from cmgems.genome.alphabet import encode_bases
from cmgems.tokenization import NonOverlappingKmers, OverlappingKmers
from cmgems.tokenization.base import FIRST_TOKEN, PAD, UNK
from cmgems.tokenization.hf import fast_tokenizer
from cmgems.tokenization.hidden import mask_exposure

SIX = NonOverlappingKmers(6)
dna = st.text("ACGTacgtNRY-", min_size=1, max_size=60)
ks = st.sampled_from([3, 4, 5, 6])


def cut(text, k):
    """Nucleotide Transformer's rule: split at N, pieces of k, single bases for the last piece."""
    text = "".join(x if x in "ACGT" else "N" for x in text.upper())
    tokens = []
    for number, stretch in enumerate(text.split("N")):
        tokens += ["N"] if number else []
        whole = len(stretch) // k * k
        tokens += [stretch[i : i + k] for i in range(0, whole, k)]
        tokens += list(stretch[whole:])
    return tokens


def encode(text, tokenization=SIX):
    return tokenization.encode(torch.from_numpy(encode_bases(text)))


def spelled(ids, tokenization=SIX):
    return [tokenization.vocabulary[id_] for id_ in ids.tolist()]


@given(dna, ks)
@settings(max_examples=300, deadline=None)
def test_tokens_are_those_of_the_published_rule(text, k):
    tokenization = NonOverlappingKmers(k)
    ids = encode(text, tokenization)
    assert spelled(ids, tokenization) == cut(text, k)
    assert ids.dtype == torch.int32
    assert fast_tokenizer(tokenization).encode(text).ids == [2, *ids.tolist(), 3]


def test_the_examples_of_the_publication():
    five = NonOverlappingKmers(5)
    assert spelled(encode("ATCGAATGGCGATGCAC", five), five) == ["ATCGA", "ATGGC", "GATGC", "A", "C"]
    wanted = ["ATCGA", "A", "T", "N", "GGCGA", "TGCAC"]
    assert spelled(encode("ATCGAATNGGCGATGCAC", five), five) == wanted


def test_real_dna_equals_the_tokenizer_for_other_tools(genome):
    """A stretch with a gap, an odd length, lower case."""
    codes = np.array(genome.codes[1_000_000:1_010_001])
    codes[5_000:5_013] = 4
    text = "".join("ATCGN"[code] for code in codes)
    ids = SIX.encode(torch.from_numpy(codes)).tolist()
    assert spelled(torch.tensor(ids)) == cut(text, 6)
    for written in (text, text.lower()):
        assert fast_tokenizer(SIX).encode(written).ids[1:-1] == ids


def test_the_published_tokenizer_cuts_alike(tmp_path):
    """The vocabulary of Nucleotide Transformer in the class of transformers that reads it."""
    transformers = pytest.importorskip("transformers", reason="wanted: pip install cmgems[peers]")
    special = ["<unk>", "<pad>", "<mask>", "<cls>"]
    vocabulary = [*special, *SIX.vocabulary[FIRST_TOKEN:], "<eos>", "<bos>"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    theirs = transformers.EsmTokenizer(str(tmp_path / "vocab.txt"), eos_token=None)
    for text in ("ATTNCCGATTACAGATTACA", "ACGTACGTNNACGTACG", "ACG", "NACGTACGTACGTAN"):
        assert theirs.tokenize(text) == spelled(encode(text))


@given(st.text("ACGT", min_size=1, max_size=40), ks)
@settings(max_examples=100, deadline=None)
def test_numbers_of_tokens_of_known_bases(text, k):
    tokenization = NonOverlappingKmers(k)
    tokens = len(encode(text, tokenization))
    assert (
        tokens == tokenization.content_tokens(len(text)) == tokenization.num_tokens(len(text)) - 2
    )
    longest = max(tokenization.num_tokens(n) for n in range(1, len(text) + 1))
    assert tokenization.max_tokens(len(text)) == longest


def test_sizes():
    assert SIX.vocab_size == len(SIX.vocabulary) == 4106
    assert SIX.vocabulary[FIRST_TOKEN : FIRST_TOKEN + 2] == ("AAAAAA", "AAAAAT")
    assert SIX.vocabulary[-5:] == ("A", "T", "C", "G", "N")
    assert SIX.max_bases(512) == 3060
    maskable = SIX.is_maskable(torch.arange(4106))
    assert maskable.nonzero()[:, 0].tolist() == list(range(5, 4105))
    assert SIX.replacements == 4100  # from the first token on: all of them, and neither N
    with pytest.raises(ValueError, match="no token"):
        SIX.encode(torch.empty(0, dtype=torch.uint8))


def test_padding_is_no_token():
    """The loader pads codes with unknown bases; rows with fewer tokens end in [PAD]."""
    codes_BL = torch.from_numpy(
        np.stack([encode_bases("ACGTACGTACGTA"), encode_bases("ACGTACGTNNNNN")])
    )
    batch = WindowBatch(codes_BL, (13, 8), torch.zeros(2, 2, dtype=torch.int32))
    done = with_tokens(batch, SIX, min_tokens=5)
    assert done.tokens == (3, 3)
    assert done.tokens_B.tolist() == [3, 3]
    assert spelled(done.ids_BK[1, :3]) == ["ACGTAC", "G", "T"]
    assert done.ids_BK.shape == (2, 5)
    assert (done.ids_BK[:, 3:] == PAD).all()
    assert with_tokens(done, SIX) is done
    assert with_tokens(batch, OverlappingKmers(6)) is batch


@given(st.lists(dna, min_size=1, max_size=4), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_a_masked_token_hides_its_bases(texts, seed):
    width = max(map(len, texts))
    codes_BL = torch.from_numpy(np.stack([encode_bases(t.ljust(width, "N")) for t in texts]))
    ids_BK = SIX.encode(codes_BL, [len(text) for text in texts])
    generator = torch.Generator().manual_seed(seed)
    mask_BK = (torch.rand(ids_BK.shape, generator=generator) < 0.5) & SIX.is_maskable(ids_BK)
    exposure = mask_exposure(SIX, mask_BK, SIX.is_maskable(ids_BK), ids_BK, width)
    for row, text in enumerate(texts):
        hidden, lengths = [], []
        for number, token in enumerate(cut(text, 6)):
            hidden += [bool(mask_BK[row, number])] * len(token)
            lengths.append(len(token) * bool(mask_BK[row, number]))
        assert exposure.hidden_BL[row, : len(text)].tolist() == hidden
        assert not exposure.hidden_BL[row, len(text) :].any()
        assert exposure.hidden_BK[row, : len(lengths)].tolist() == lengths
    assert exposure.copyable == 0


def test_base_probabilities_are_marginals_of_the_token():
    """Of a k-mer summed over its other bases, k-mers alone; of a single base, bases alone."""
    two = NonOverlappingKmers(3)
    ids_BK = torch.stack([encode("ACGTTGCA", two), encode("NACGTTA", two).new_zeros(4)])
    ids_BK[1] = torch.tensor([*encode("NACGTTA", two)[:3].tolist(), PAD])
    mask_BK = torch.tensor([[False, True, True, False], [False, True, False, False]])
    logits_MV = torch.randn(3, two.vocab_size, generator=torch.Generator().manual_seed(0))
    wanted_BL = torch.zeros(2, 8, dtype=torch.bool)
    wanted_BL[0, [4, 6]] = wanted_BL[1, 3] = True  # the middle of TTG, C, the last of ACG
    found_H4 = two.base_probabilities(logits_MV, mask_BK, wanted_BL, ids_BK)
    kmers = [two.vocabulary[i] for i in range(5, 69)]
    for number, (row, offset) in enumerate([(0, 1), (1, None), (2, 2)]):
        for code, base in enumerate("ATCG"):
            if offset is None:
                chance = logits_MV[row, 69:73].softmax(0)[code]
            else:
                chances = logits_MV[row, 5:69].softmax(0)
                chance = sum(
                    p for p, kmer in zip(chances, kmers, strict=True) if kmer[offset] == base
                )
            assert float(found_H4[number, code]) == pytest.approx(float(chance), abs=1e-6)


def test_a_token_is_ranked_by_its_own_kmer_and_single_bases_by_none():
    ids = encode("ACGTACGTN")
    assert SIX.kmer_ids(ids[None])[0].tolist() == [int(ids[0]), UNK, UNK, UNK]
    targets_M = torch.tensor([int(ids[0]), int(ids[1]), -100])
    kmers_M = SIX.target_kmers(ids, torch.arange(3), targets_M)
    index = OverlappingKmers(6).encode(torch.from_numpy(encode_bases("ACGTAC")))[0] - FIRST_TOKEN
    assert int(kmers_M[0]) == int(index)
    assert (kmers_M[1:] < 0).all()
