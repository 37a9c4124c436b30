"""`cmgems embed`: the vectors of sequences, pooled and per token."""

import numpy as np
import pytest
import torch

from cmgems.cli import main
from cmgems.genome.alphabet import encode_bases
from cmgems.hub.pretrained import load_pretrained
from cmgems.inference.embedding import ALL, embed_sequences, embed_tokens, resolve_layers
from cmgems.models.layouts import SequenceLayout
from cmgems.tasks.dataset import pack_codes
from cmgems.tasks.truncation import make_rows
from cmgems.tokenization.base import CLS, SEP

TEXTS = ["ACGTTGCAACGGTCATGGACTTGCA" * 2, "TTGACCATGCAAGT", "ACGTTGNAACGGTCAT"]


@pytest.fixture(scope="module")
def model(pretrained_run):
    return load_pretrained(pretrained_run)


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "three.fa"
    path.write_text("".join(f">s{n} more\n{text}\n" for n, text in enumerate(TEXTS)))
    return path


@torch.no_grad()
def states(model, text, num_layers=None):
    """[tokens, D] of one sequence through the packed encoder, [CLS] and [SEP] included."""
    ids = model.tokenization.encode(torch.from_numpy(encode_bases(text))).long()
    row = torch.cat([torch.tensor([CLS]), ids, torch.tensor([SEP])])
    layout = SequenceLayout.of((len(row),))
    return model.model.encoder(row, layout, num_layers=num_layers).numpy()


def test_pools(model):
    data = pack_codes(map(encode_bases, TEXTS))
    encoder = model.model.encoder
    for pool, plain in (
        ("mean", lambda x: x[1:-1].mean(0)),
        ("max", lambda x: x[1:-1].max(0)),
        ("cls", lambda x: x[0]),
        ("mean_max", lambda x: np.concatenate([x[1:-1].mean(0), x[1:-1].max(0)])),
        ("middle", lambda x: x[1:-1][(len(x) - 2) // 2]),
    ):
        found = embed_sequences(encoder, data, model.tokenization, pool)
        wanted = np.stack([plain(states(model, text)) for text in TEXTS])
        assert np.allclose(found, wanted, atol=1e-4), pool


def test_layers(model):
    data, encoder = pack_codes(map(encode_bases, TEXTS)), model.model.encoder
    last = embed_sequences(encoder, data, model.tokenization, layers=[encoder.config.num_layers])
    assert np.array_equal(last, embed_sequences(encoder, data, model.tokenization))
    ids = model.tokenization.encode(torch.from_numpy(encode_bases(TEXTS[1]))).long()
    with torch.no_grad():
        place = torch.arange(1, len(ids) + 1)
        first = encoder.norm(encoder.tokens(ids) + encoder.positions(place)).mean(0)
    assert np.allclose(
        embed_sequences(encoder, data, model.tokenization, layers=[0])[1], first.numpy(), atol=1e-5
    )


def test_several_layers_are_each_of_them_side_by_side(model):
    """Of short and of long sequences (several windows), pooled and per token."""
    long = np.random.default_rng(0).integers(0, 4, 1200).astype(np.uint8)
    codes = [*map(encode_bases, TEXTS), long]
    data, encoder, tokens = pack_codes(codes), model.model.encoder, model.tokenization
    first = np.stack([states(model, text, 1)[1:-1].max(0) for text in TEXTS])
    assert np.allclose(
        embed_sequences(encoder, data, tokens, "max", ALL)[:3, :32], first, atol=1e-4
    )
    for layers, alone in (([2, 0], (2, 0)), (ALL, (1, 2)), ([-1, -2], (2, 1))):
        for pool in ("mean", "max", "mean_max"):
            found = embed_sequences(encoder, data, tokens, pool, layers)
            wanted = [embed_sequences(encoder, data, tokens, pool, [one]) for one in alone]
            assert np.array_equal(found, np.concatenate(wanted, 1)), (layers, pool)
        found = embed_tokens(encoder, long, tokens, layers)
        wanted = [embed_tokens(encoder, long, tokens, [one]) for one in alone]
        assert np.array_equal(found, np.concatenate(wanted, 1)), layers


def test_layers_are_counted_from_both_ends():
    assert resolve_layers([], 3) == [1, 2, 3]
    assert resolve_layers([0, 3, -2], 3) == [0, 3, 2]
    for layers, wanted in (([4], "found 4, wanted -3 to 3"), ([3, -1], "each layer once")):
        with pytest.raises(ValueError, match=wanted):
            resolve_layers(layers, 3)


def test_long_sequences_are_covered_by_windows(model):
    generator = np.random.default_rng(0)
    text = "".join(generator.choice(list("ACGT"), 1200))
    data = pack_codes([encode_bases(text)])
    rows = make_rows(data, 515, "windows")
    parts = [text[s : s + n] for s, n in zip(rows.start, rows.length, strict=True)]
    wanted = np.mean([states(model, part)[1:-1].mean(0) for part in parts], 0)
    assert np.allclose(
        embed_sequences(model.model.encoder, data, model.tokenization)[0], wanted, atol=1e-4
    )
    tokens = embed_tokens(model.model.encoder, encode_bases(text), model.tokenization)
    assert tokens.shape == (1195, 32)
    assert np.allclose(tokens[:400], states(model, parts[0])[1:401], atol=1e-4)
    assert np.allclose(tokens[-100:], states(model, parts[-1])[-101:-1], atol=1e-4)


def test_files(pretrained_run, model, fasta, tmp_path):
    data = pack_codes(map(encode_bases, TEXTS))
    wanted = embed_sequences(model.model.encoder, data, model.tokenization, "max")
    for name in ("out.npz", "out.tsv"):
        out = tmp_path / name
        args = ["embed", str(pretrained_run), str(fasta), "--pool", "max", "--out", str(out)]
        assert main(args) == 0
    found = np.load(tmp_path / "out.npz", allow_pickle=False)
    assert found["names"].tolist() == ["s0", "s1", "s2"]
    assert np.allclose(found["vectors"], wanted, atol=1e-5)
    rows = [line.split("\t") for line in (tmp_path / "out.tsv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["s0", "s1", "s2"]
    assert np.allclose(np.array([row[1:] for row in rows], float), wanted, rtol=1e-4, atol=1e-5)


def test_tokens_file(pretrained_run, model, fasta, tmp_path):
    out = tmp_path / "tokens.npz"
    assert (
        main(["embed", str(pretrained_run), str(fasta), "--pool", "tokens", "--out", str(out)]) == 0
    )
    found = np.load(out, allow_pickle=False)
    assert found["names"].tolist() == ["s0", "s1", "s2"]
    for n, text in enumerate(TEXTS):
        assert np.allclose(found[str(n)], states(model, text)[1:-1], atol=1e-4)


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (["--out", "x.csv"], "--out: found x.csv, wanted a name that ends with .npz or .tsv"),
        (["--out", "x.tsv", "--pool", "tokens"], "--pool tokens: found a .tsv"),
        (["--out", "nowhere/x.tsv"], "nowhere is not a folder"),
        (["--out", "x.tsv", "--layers", "9"], "--layers: found 9, wanted -2 to 2"),
    ],
)
def test_refused(pretrained_run, fasta, capsys, tmp_path, monkeypatch, more, wanted):
    monkeypatch.chdir(tmp_path)
    assert main(["embed", str(pretrained_run), str(fasta), *more]) == 2
    err = capsys.readouterr().err
    assert wanted in err
    assert err.count("\n") == 1
    assert not (tmp_path / "x.tsv").exists()


def test_a_sequence_shorter_than_k_is_refused(pretrained_run, tmp_path, capsys):
    path = tmp_path / "short.fa"
    path.write_text(">ok\nACGTACGT\n>short\nACG\n")
    args = ["embed", str(pretrained_run), str(path), "--out", str(tmp_path / "x.npz")]
    assert main(args) == 2
    assert "short has 3 bases, wanted at least 6" in capsys.readouterr().err
    assert not (tmp_path / "x.npz").exists()
