"""Plain DNA to the ids of an exported folder, by our class and by AutoTokenizer."""

import pickle
import sys

import pytest
import torch

import cmgems.hf
from cmgems.errors import UserError
from cmgems.genome.alphabet import encode_bases
from cmgems.hub.folder import write_tokenizer
from cmgems.tokenization import BytePairs, NonOverlappingKmers, OverlappingKmers, SingleBases

transformers = pytest.importorskip("transformers", reason="wanted: pip install cmgems[peers]")
DNA = "GATTACAGGCATTAGCNCGGATATTACC"


def ids_of(tokenization, text):
    ids = tokenization.encode(torch.from_numpy(encode_bases(text))).tolist()
    return [2, *ids, 3]


@pytest.fixture(params=[OverlappingKmers(6), OverlappingKmers(3), SingleBases(6), "nt", "bpe"])
def tokenization(request):
    if request.param == "nt":
        return NonOverlappingKmers(6)
    if request.param == "bpe":
        return BytePairs((*"ATCG", "AT"), (("A", "T"),))
    return request.param


def test_plain_dna_in_either_case_has_our_ids(tokenization, tmp_path):
    write_tokenizer(tmp_path, tokenization)
    tokenizer = cmgems.hf.Tokenizer.from_pretrained(tmp_path)
    assert tokenizer(DNA).input_ids == ids_of(tokenization, DNA)
    assert tokenizer(DNA.lower()).input_ids == ids_of(tokenization, DNA)
    batch = tokenizer([DNA, DNA[:9]], padding=True, return_tensors="pt")
    assert batch.attention_mask.sum(1).tolist() == [
        len(ids_of(tokenization, text)) for text in (DNA, DNA[:9])
    ]
    assert pickle.loads(pickle.dumps(tokenizer)).encode(DNA) == ids_of(tokenization, DNA)
    tokenizer.save_pretrained(tmp_path / "again")
    again = cmgems.hf.Tokenizer.from_pretrained(tmp_path / "again")
    assert again(DNA).input_ids == ids_of(tokenization, DNA)


def test_auto_tokenizer_says_that_plain_dna_is_no_kmer(tmp_path):
    write_tokenizer(tmp_path, OverlappingKmers(6))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "gattac ATTACA ATTACN [MASK]"
    assert tokenizer.tokenize(text) == ["GATTAC", "ATTACA", "[UNK]", "[MASK]"]
    assert cmgems.hf.Tokenizer.from_pretrained(tmp_path).tokenize(text) == tokenizer.tokenize(text)
    for text in (DNA, "ACG", "ACGTACG ACGTAC"):
        with pytest.raises(Exception, match=r"Missing \[UNK\] token"):
            tokenizer(text)


def test_a_sequence_shorter_than_a_kmer_is_refused(tmp_path):
    write_tokenizer(tmp_path, OverlappingKmers(6))
    tokenizer = cmgems.hf.Tokenizer.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="found 3 bases, wanted at least 6"):
        tokenizer(["ACGTACGT", "ACG"])


def test_without_transformers_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    for module in ("cmgems.hf.tokenizer", "cmgems.hf.callback"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(UserError, match=r"Tokenizer: transformers is not installed; pip install"):
        cmgems.hf.Tokenizer  # noqa: B018
