"""Byte pairs: ids against a slow encoder, files that cannot be used, units, scores of bases."""

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references.bpe import SPECIAL, cut, unit
from torch.utils._python_dispatch import TorchDispatchMode

from cmgems.cli import main
from cmgems.errors import UserError
from cmgems.genome.alphabet import encode_bases
from cmgems.tokenization import BytePairs
from cmgems.tokenization.base import FIRST_TOKEN, UNK
from cmgems.tokenization.bpe import Ngrams
from cmgems.tokenization.bpe_file import genome_byte_pairs, read_byte_pairs
from cmgems.tokenization.hf import fast_tokenizer
from cmgems.utils.ngram_keys import key_bits

MERGES = (("A", "A"), ("T", "A"), ("AA", "A"), ("C", "G"), ("CG", "CG"), ("TA", "TA"), ("AA", "AA"))
SMALL = BytePairs((*"ACGT", *(a + b for a, b in MERGES)), MERGES)
dna = st.text("ACGTacgtNRY-", min_size=1, max_size=60)


@pytest.fixture(scope="module")
def learned(genome):
    return genome_byte_pairs(genome, 512, 6)


def encode(text, tokenization=SMALL):
    return tokenization.encode(torch.from_numpy(encode_bases(text)))


@given(st.text("AAACGTTN", min_size=1, max_size=40) | dna)
@settings(max_examples=300, deadline=None)
def test_tokens_are_those_of_the_slow_encoder(text):
    ids = encode(text)
    assert [SMALL.vocabulary[id_] for id_ in ids] == cut(text, list(MERGES))
    assert fast_tokenizer(SMALL).encode(text).ids == [2, *ids.tolist(), 3]
    assert SMALL.is_maskable(ids).tolist() == [id_ != UNK for id_ in ids.tolist()]


def test_real_dna_equals_the_exported_tokenizer(genome, learned):
    """Longer than a piece, with a gap, in either case."""
    codes = np.array(genome.codes[2_000_000:2_030_001])
    codes[5_000:5_013] = 4
    text = "".join("ATCGN"[code] for code in codes)
    ids = learned.encode(torch.from_numpy(codes)).tolist()
    assert "".join(learned.vocabulary[i].replace("[UNK]", "N") for i in ids) == text
    for written in (text, text.lower()):
        assert fast_tokenizer(learned).encode(written).ids[1:-1] == ids
    assert [learned.vocabulary[i] for i in learned.encode(torch.from_numpy(codes[:400]))] == cut(
        text[:400], list(learned.merges)
    )


def test_sizes(learned, genome):
    assert learned.vocab_size == len(learned.vocabulary) == 512
    assert learned.replacements == 507
    assert max(map(len, learned.tokens)) == int(learned.token_bases.max())
    expected = learned.content_tokens(10_000)
    assert 10_000 / 6 < expected < 10_000 / 2
    found = len(learned.encode(torch.from_numpy(np.array(genome.codes[:10_000]))))
    assert found == pytest.approx(expected, rel=0.2)
    with pytest.raises(ValueError, match="no token"):
        learned.encode(torch.empty(0, dtype=torch.uint8))


def test_a_file_comes_back_and_older_files_are_read(tmp_path, learned):
    path = tmp_path / "tokenizer.json"
    path.write_text(fast_tokenizer(learned).to_str())
    assert read_byte_pairs(str(path)) == learned
    content = json.loads(path.read_text())
    content["model"]["merges"] = [" ".join(pair) for pair in learned.merges]
    older = tmp_path / "older.json"
    older.write_text(json.dumps(content))
    assert read_byte_pairs(str(older)) == learned
    assert repr(read_byte_pairs(str(older))) == repr(learned) != repr(SMALL)


def test_special_tokens_in_another_order_get_our_ids(tmp_path, learned):
    """DNABERT-2 has [UNK], [CLS], [SEP], [PAD], [MASK]."""
    content = json.loads(fast_tokenizer(learned).to_str())
    for id_, token in enumerate(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]):
        content["model"]["vocab"][token] = id_
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    assert read_byte_pairs(str(path)) == learned


def write(path, tokens, merges=(), kind="BPE"):
    vocabulary = {token: id_ for id_, token in enumerate(tokens)}
    path.write_text(
        json.dumps({"model": {"type": kind, "vocab": vocabulary, "merges": list(merges)}})
    )


@pytest.mark.parametrize(
    ("tokens", "merges", "kind", "problem"),
    [
        ([*SPECIAL, *"ACGT"], (), "WordPiece", "found the model 'WordPiece', not BPE"),
        ([*SPECIAL[:4], *"ACGT"], (), "BPE", r"has no \[MASK\] among its first 5 tokens"),
        ([*"ACGT", *SPECIAL], (), "BPE", r"has no \[UNK\] among its first 5 tokens"),
        ([*SPECIAL, *"ACG"], (), "BPE", "has no token for the single base T"),
        ([*SPECIAL, *"ACGT", "hello"], (), "BPE", "has the token 'hello'"),
        ([*SPECIAL, *"ACGT"], (["A", "C"],), "BPE", "whose tokens it lacks"),
    ],
)
def test_what_is_no_tokenizer_of_dna_is_one_line(tokens, merges, kind, problem, tmp_path):
    path = tmp_path / "tokenizer.json"
    write(path, tokens, merges, kind)
    with pytest.raises(UserError, match=problem) as caught:
        read_byte_pairs(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "no JSON", "[1]", '{"model": {"type": "BPE"}}'])
def test_a_damaged_file_is_one_line_of_the_command(content, tmp_path, tiny, capsys):
    from helpers.paths import EXPERIMENTS

    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    settings = [*tiny, f"data.tokenizer={path}", f"run.dir={tmp_path / 'run'}"]
    settings.append("train.max_steps=3")
    assert main(["pretrain", str(EXPERIMENTS / "pretrain/bpe.yaml"), *settings]) == 2
    error = capsys.readouterr().err.strip()
    assert f"{path}: " in error
    assert "wanted a tokenizer.json of byte pairs" in error
    assert "\n" not in error
    assert not (tmp_path / "run").exists()


def test_units_are_the_best_ranked_ngrams_that_begin_at_a_token(learned):
    generator = np.random.default_rng(0)
    rows = generator.integers(FIRST_TOKEN, FIRST_TOKEN + 4, (6, 80)).astype(np.int32)
    rows[generator.random(rows.shape) < 0.05] = UNK
    found = set()
    for _ in range(60):
        n = int(generator.integers(2, 6))
        found.add(tuple(generator.integers(FIRST_TOKEN, FIRST_TOKEN + 4, n).tolist()))
    bits = key_bits(learned.vocab_size)
    keys = {}
    for ngram in found:
        key = 0
        for id_ in ngram:
            key = key << bits | id_
        keys[key] = ngram
    order = sorted(keys)
    rank = generator.permutation(len(order)).astype(np.int32) + 1
    ranks = {keys[key]: int(rank[i]) for i, key in enumerate(order)}
    tokenization = BytePairs(
        learned.tokens, learned.merges, ngrams=Ngrams(np.array(order, np.int64), rank)
    )
    ids_BK = torch.from_numpy(rows)
    index_BK = tokenization.kmer_ids(ids_BK) - FIRST_TOKEN
    lengths_BK = tokenization.unit_lengths(ids_BK)
    table = np.concatenate([rank, len(rank) + 1 + np.arange(len(learned.tokens))])
    several = 0
    for row, ids in enumerate(rows.tolist()):
        for position in range(len(ids)):
            best = unit(ids, position, ranks)
            if ids[position] == UNK:
                assert index_BK[row, position] < 0
            elif best is None:
                assert table[index_BK[row, position]] == len(rank) + 1 + ids[position] - FIRST_TOKEN
                assert lengths_BK[row, position] == 1
            else:
                several += 1
                assert (table[index_BK[row, position]], lengths_BK[row, position]) == best
    assert several > 100
    assert repr(tokenization) != repr(learned)  # cached rates are of these units


class CopiesFromHost(TorchDispatchMode):
    """Counts the tensors that are copied from the host to another device."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **kwargs or {})
        if function is torch.ops.aten._to_copy.default:
            self.count += args[0].device.type == "cpu" and found.device.type != "cpu"
        return found


def test_tables_are_copied_to_a_device_once():
    ngrams = Ngrams(np.array([5 << key_bits(SMALL.vocab_size) | 6]), np.array([1], np.int32))
    tokenization = BytePairs(SMALL.tokens, MERGES, ngrams=ngrams)
    ids_BK = torch.full((2, 9), 5, dtype=torch.int32, device="meta")
    with CopiesFromHost() as copies:
        for copied in (2, 2):  # the keys and the ranks, and nothing when asked again
            tokenization.kmer_ids(ids_BK)
            assert copies.count == copied
        for copied in (3, 3):
            tokenization.bases_of_tokens(ids_BK > 0, ids_BK, 40)
            assert copies.count == copied
    elsewhere = pickle.loads(pickle.dumps(tokenization))  # a worker of a loader
    assert elsewhere == tokenization
    assert "_moved" in vars(tokenization)
    assert "_moved" not in vars(elsewhere)


def test_scores_of_bases_share_out_the_tokens(learned):
    """-log2 of the token's probability among all that can be masked, evenly over its bases."""
    ids_K = learned.encode(torch.from_numpy(encode_bases("ACGTTTTTAACCAGGATTACA")))
    width, place = 21, 2
    mask_BK = (torch.arange(len(ids_K)) == place)[None]
    wanted_BL = learned.hidden_bases(mask_BK, None, ids_K[None], width)
    logits_MV = torch.randn(1, 512, generator=torch.Generator().manual_seed(0))
    codes_BL = torch.from_numpy(encode_bases("ACGTTTTTAACCAGGATTACA"))[None]
    scores = learned.score_bases(logits_MV, mask_BK, wanted_BL, codes_BL, ids_K[None])
    bases = len(learned.vocabulary[ids_K[place]])
    assert len(scores.bits_H) == bases
    chance = logits_MV[0, 5:].double().softmax(0)[ids_K[place] - 5]
    assert scores.bits_H.sum().item() == pytest.approx(-np.log2(chance))
    assert scores.bits_H.unique().numel() == 1
    logits_MV[0, ids_K[place]] = 100.0
    right = learned.score_bases(logits_MV, mask_BK, wanted_BL, codes_BL, ids_K[None])
    assert right.correct_H.all()
    assert not scores.correct_H.any()


def test_base_probabilities_are_those_of_all_tokens_that_reach_the_base():
    ids_BK = encode("AAACGCGT")[None]
    assert [SMALL.vocabulary[i] for i in ids_BK[0]] == ["AAA", "CGCG", "T"]
    mask_BK = torch.tensor([[False, True, False]])
    wanted_BL = torch.zeros(1, 8, dtype=torch.bool)
    wanted_BL[0, [3, 5]] = True
    logits_MV = torch.randn(1, SMALL.vocab_size, generator=torch.Generator().manual_seed(1))
    found_H4 = SMALL.base_probabilities(logits_MV, mask_BK, wanted_BL, ids_BK)
    chances = dict(zip(SMALL.tokens, logits_MV[0, 5:].softmax(0).tolist(), strict=True))
    for row, offset in enumerate((0, 2)):
        for code, base in enumerate("ATCG"):
            wanted = sum(
                (p if token[offset] == base else 0) if len(token) > offset else p / 4
                for token, p in chances.items()
            )
            assert float(found_H4[row, code]) == pytest.approx(wanted, abs=1e-6)
