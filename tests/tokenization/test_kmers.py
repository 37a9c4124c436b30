"""Vocabulary, ids on tensors, and the tokenizer file."""

import pytest
import torch

from cmgems.genome.alphabet import encode_bases
from cmgems.tokenization import OverlappingKmers
from cmgems.tokenization.base import UNK
from cmgems.tokenization.hf import fast_tokenizer, kmer_text

SEQUENCE = "ACGTNACGTTTTGCANNACGTRACGATTACAgattacaTTTTTTTAAAAAACCCCCGGGGG" * 3


def slow_ids(sequence, k):
    ids = {token: id_ for id_, token in enumerate(OverlappingKmers(k).vocabulary)}
    upper = sequence.upper()
    return [ids.get(upper[i : i + k], UNK) for i in range(len(upper) - k + 1)]


def test_vocabulary_is_dnaberts():
    """The first lines of DNABERT's vocab.txt for k = 6, and its size."""
    tokens = list(OverlappingKmers(6).vocabulary)
    assert tokens[:10] == [
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        *("AAAAAA", "AAAAAT", "AAAAAC", "AAAAAG", "AAAATA"),
    ]
    assert tokens[-1] == "GGGGGG"
    assert [len(OverlappingKmers(k).vocabulary) for k in (3, 4, 5, 6)] == [69, 261, 1029, 4101]


@pytest.mark.parametrize("k", [3, 4, 5, 6])
def test_ids_equal_looking_up_text(k):
    assert OverlappingKmers(k).encode(
        torch.from_numpy(encode_bases(SEQUENCE))
    ).tolist() == slow_ids(SEQUENCE, k)


def test_ids_of_a_batch_and_of_real_dna(genome):
    codes = torch.from_numpy(genome.codes[:3000].copy()).reshape(3, 1000)
    letters = ["".join("ATCGN"[code] for code in row) for row in codes.tolist()]
    assert OverlappingKmers(6).encode(codes).tolist() == [slow_ids(row, 6) for row in letters]


def test_a_sequence_shorter_than_k_is_refused():
    with pytest.raises(ValueError, match="5 bases has no 6-mer"):
        OverlappingKmers(6).encode(torch.zeros(5, dtype=torch.uint8))


@pytest.mark.parametrize("k", [3, 6])
def test_tokenizer_file_gives_the_same_ids(k, tmp_path):
    from tokenizers import Tokenizer

    fast_tokenizer(OverlappingKmers(k)).save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ids = tokenizer.encode(kmer_text(SEQUENCE.upper(), k)).ids
    assert ids == [2, *slow_ids(SEQUENCE, k), 3]
    assert tokenizer.get_vocab_size() == 5 + 4**k
