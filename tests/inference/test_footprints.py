"""Motif footprints, against the slow and obvious way."""

import numpy as np
import pytest
import torch
from helpers.encoders import tiny_config
from helpers.genome_files import build
from references.variants import slow_log_likelihood

from cmgems.cli import main
from cmgems.errors import UserError
from cmgems.genome.alphabet import BASES, encode_bases
from cmgems.hub.pretrained import Pretrained
from cmgems.inference import footprints
from cmgems.inference.footprints import footprint_lines, score_footprint
from cmgems.inference.motifs import Motif
from cmgems.models.encoder import MaskedLanguageModel
from cmgems.tokenization import OverlappingKmers

MOTIF = Motif("m", encode_bases("TGGC"), np.eye(4)[encode_bases("TGGC")])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = MaskedLanguageModel(tiny_config(num_layers=1, hidden_size=16, num_heads=2)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return Pretrained(model, OverlappingKmers(3), "made", "", None)


@pytest.fixture
def genome(tmp_path, monkeypatch):
    """All of it is held out."""
    monkeypatch.setattr(footprints, "split_spans", lambda spans, *_: (spans, spans))
    text = "".join(np.random.default_rng(1).choice(list("ACGT"), 300))
    return build(tmp_path, f">a\n{text}NNNN{text[:30]}\n".encode())


def test_differences_equal_the_slow_ones(model, genome, monkeypatch):
    seen = []
    fast = footprints.base_log_likelihoods

    def looked_at(network, tokenization, windows, *rest):
        seen.append(windows)
        return fast(network, tokenization, windows, *rest)

    monkeypatch.setattr(footprints, "base_log_likelihoods", looked_at)
    found = score_footprint(model, genome, MOTIF, window=12, pairs=3)
    texts = ["".join(BASES[code] for code in row) for row in seen[0]]
    genome_text = "".join((BASES + "N")[code] for code in genome.codes)
    for pair, difference in enumerate(found):
        planted, shuffled = texts[2 * pair : 2 * pair + 2]
        assert planted[4:8] == "TGGC" != shuffled[4:8]
        assert sorted(shuffled[4:8]) == sorted("TGGC")
        assert planted[:4] == shuffled[:4]
        assert planted[8:] == shuffled[8:]
        flanks = [genome_text[i : i + 4] + genome_text[i + 8 : i + 12] for i in range(323)]
        assert planted[:4] + planted[8:] in flanks
        scores = [
            slow_log_likelihood(model.model, text, range(4, 8)) for text in texts[2 * pair :][:2]
        ]
        assert difference == pytest.approx(scores[0] - scores[1], abs=1e-3)
    assert np.array_equal(found, score_footprint(model, genome, MOTIF, window=12, pairs=3))


def test_lines_count_the_pairs_that_prefer_the_consensus(model, genome, tmp_path, monkeypatch):
    differences = {"TGGC": [1.0, -2.0, 3.0, 0.0], "ACGT": [2.0, 2.0, 2.0, 2.0]}
    monkeypatch.setattr(
        footprints,
        "score_footprint",
        lambda model, genome, motif, *_: np.array(differences[motif.consensus]),
    )
    (tmp_path / "m.txt").write_text("# two\none tggc\n\ntwo ACGT\n")
    header, *rows = footprint_lines(model, tmp_path / "m.txt", genome, 20, 4)
    assert header.split("\t")[:4] == ["name", "consensus", "pairs", "consensus_likelier"]
    assert [row.split("\t")[:5] for row in rows] == [
        ["one", "TGGC", "4", "0.6250", "0.500000"],
        ["two", "ACGT", "4", "1.0000", "2.000000"],
    ]


def test_what_is_refused_and_left_out(model, genome, tmp_path, capsys):
    path = tmp_path / "m"
    path.write_text("a AAAA\n")
    with pytest.raises(UserError, match="each consensus is one letter alone"):
        next(footprint_lines(model, path, genome, 30, 4))
    path.write_text("a AAAA\nlong " + "ACGT" * 9 + "\n")
    with pytest.raises(UserError, match="long has 36 bases, wanted at most 30"):
        next(footprint_lines(model, path, genome, 30, 4))
    assert "1 of 2 motifs are left out" in capsys.readouterr().err
    with pytest.raises(UserError, match="has no 400 known bases in a row"):
        score_footprint(model, genome, MOTIF, 400, 4)


def test_the_command(pretrained_run, tmp_path, capsys):
    motifs = tmp_path / "m.txt"
    motifs.write_text("one TGGCA\n")
    given = ["score", str(pretrained_run), "--motifs", str(motifs), "--window", "40"]
    assert main([*given, "--genome", "sample", "--pairs", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("one\tTGGCA\t3\t")
    assert main(given) == 2
    assert "--motifs: wanted --genome GENOME" in capsys.readouterr().err
