"""The token store: ids as the encoder gives them, windows cut between tokens, caches that heal."""

import json

import numpy as np
import pytest
import torch
from helpers.genome_files import build

from cmgems.data_modules.ngrams import genome_ngrams
from cmgems.data_modules.pretraining import GenomeDataModule, ValidationWindows
from cmgems.data_modules.sampling import Windows
from cmgems.data_modules.token_store import cut_between_tokens, open_tokens
from cmgems.data_modules.windows import collate
from cmgems.runs.experiment import load
from cmgems.tokenization.bpe import PIECE
from cmgems.tokenization.bpe_file import genome_byte_pairs


@pytest.fixture(scope="module")
def gappy(tmp_path_factory):
    """Two contigs with gaps: stretches longer and shorter than a piece, one of a single base."""
    generator = np.random.default_rng(0)
    parts = ["".join(generator.choice(list("ACGTAAC"), n)) for n in (25_000, 900, 1, 13_000)]
    text = f">a\n{parts[0]}NNN{parts[1]}N{parts[2]}N\n>b\nNN{parts[3]}\n"
    return build(tmp_path_factory.mktemp("gappy"), text.encode())


@pytest.fixture(scope="module")
def byte_pairs(gappy):
    return genome_byte_pairs(gappy, 100, 6)


def known_stretches(codes):
    start = None
    for i, code in enumerate([*codes.tolist(), 4]):
        if code < 4 and start is None:
            start = i
        if code == 4 and start is not None:
            yield start, i
            start = None


def test_ids_are_those_of_the_pieces(gappy, byte_pairs):
    store = open_tokens(gappy, byte_pairs)
    codes, row = np.array(gappy.codes), 0
    for start, end in known_stretches(codes):
        for piece in range(start, end, PIECE):
            wanted = byte_pairs.encode(torch.from_numpy(codes[piece : min(piece + PIECE, end)]))
            base, first = store.pieces[row]
            assert base == piece
            assert store.ids[first : store.pieces[row + 1][1]].tolist() == wanted.tolist()
            row += 1
    assert row == len(store.pieces) - 1
    assert store.pieces[-1].tolist() == [len(codes), len(store.ids)]


def test_a_window_has_the_tokens_that_lie_whole_in_it(gappy, byte_pairs):
    store, codes = open_tokens(gappy, byte_pairs), np.array(gappy.codes)
    lengths = byte_pairs.token_bases.numpy()
    tokens = []  # (first base, id) of all
    for (base, first), (_, last) in zip(store.pieces, store.pieces[1:], strict=False):
        for id_ in store.ids[first:last].tolist():
            tokens.append((int(base), id_))
            base += lengths[id_]
    generator = np.random.default_rng(1)
    for start, end in known_stretches(codes):
        for _ in range(60):
            a = int(generator.integers(start, end))
            b = int(generator.integers(a + 1, min(end, a + 300) + 1))
            inside = [(at, id_) for at, id_ in tokens if at >= a and at + lengths[id_] <= b]
            at, ids = store.window(a, b - a)
            assert ids.tolist() == [id_ for _, id_ in inside]
            if inside:
                assert at == inside[0][0]
                spelled = "".join(byte_pairs.vocabulary[id_] for id_ in ids)
                assert spelled == "".join("ATCG"[c] for c in codes[at : at + len(spelled)])


def test_a_store_that_is_damaged_or_of_another_genome_is_built_again(gappy, byte_pairs):
    store = open_tokens(gappy, byte_pairs)
    wanted = np.array(store.ids)
    ids, manifest = store.path / "ids.u16", store.path / "tokens.json"

    def flip():
        content = bytearray(ids.read_bytes())
        content[100] ^= 1
        ids.write_bytes(content)

    def other_genome():
        content = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({**content, "genome": "another"}))

    for damage in (flip, lambda: ids.write_bytes(b"x"), manifest.unlink, other_genome):
        damage()
        assert np.array_equal(open_tokens(gappy, byte_pairs).ids, wanted)
    before = ids.stat().st_mtime_ns
    open_tokens(gappy, byte_pairs)
    assert ids.stat().st_mtime_ns == before  # nothing is written twice


def test_ngrams_are_cached_beside_the_tokens(gappy, byte_pairs):
    table = genome_ngrams(gappy, byte_pairs, 5)
    (path,) = open_tokens(gappy, byte_pairs).path.glob("ngrams-*")
    for content in (path.read_bytes(), path.read_bytes()[:200], b""):
        path.write_bytes(content)
        again = genome_ngrams(gappy, byte_pairs, 5)
        for name in ("keys", "ngram_counts", "npmi", "rank", "counts"):
            assert np.array_equal(getattr(again, name), getattr(table, name))


def test_batches_hold_whole_tokens_and_their_bases(genome, tiny):
    from helpers.paths import EXPERIMENTS

    settings = [*tiny, "train.max_steps=3", "model.max_position_embeddings=64"]
    settings.append("data.window_length=600")
    data = GenomeDataModule(load(EXPERIMENTS / "pretrain/bpe.yaml", settings), genome)
    windows = ValidationWindows(data.codes, data.validation_windows, 0, 1)
    longest = 0
    for number in range(len(windows)):
        plain = windows[number]
        batch = data.on_before_batch_transfer(plain, 0)
        longest = max(longest, *batch.tokens)
        for row, (start, bases) in enumerate(zip(plain.starts, plain.bases, strict=True)):
            ids = batch.ids_BK[row, : batch.tokens[row]].tolist()
            spelled = "".join(data.tokenization.vocabulary[id_] for id_ in ids)
            assert len(spelled) == batch.bases[row] == int(batch.bases_B[row])
            codes = batch.codes_BL[row]
            assert spelled == "".join("ATCG"[code] for code in codes[: len(spelled)])
            assert (codes[len(spelled) :] == 4).all()
            assert start <= batch.starts[row] < start + 40
            assert batch.starts[row] + len(spelled) <= start + bases
            assert (batch.ids_BK[row, batch.tokens[row] :] == 0).all()
    assert longest == 62  # as many as there are positions for


def test_a_window_without_a_whole_token_is_encoded_on_its_own(gappy, byte_pairs):
    store, codes = open_tokens(gappy, byte_pairs), np.array(gappy.codes)
    longest = int(byte_pairs.token_bases[torch.from_numpy(store.ids[:2000].astype(int))].argmax())
    at = int(byte_pairs.token_bases[torch.from_numpy(store.ids[:longest].astype(int))].sum())
    windows = Windows(np.array([at + 1, 100]), np.array([2, 400]))
    batch = collate(codes, windows, np.zeros((2, 2), np.int32))
    cut = cut_between_tokens(batch, codes, byte_pairs, store, most=1000)
    assert cut.bases[1] == 2
    wanted = byte_pairs.encode(torch.from_numpy(codes[at + 1 : at + 3])).tolist()
    assert cut.ids_BK[1, : cut.tokens[1]].tolist() == wanted
    assert cut.ids_BK[0, : cut.tokens[0]].tolist() == store.window(100, 400)[1].tolist()
