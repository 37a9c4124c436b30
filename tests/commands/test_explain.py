"""`cmgems explain`: its files, and that an interrupted call ends as one that was not."""

import json
import re

import numpy as np
import pytest
from helpers.classifiers import save_random_classifier

from cmgems.cli import main
from cmgems.evaluation.finetuning.classifier import load_classifier
from cmgems.evaluation.prediction.predictor import Predictor
from cmgems.explanation import explain
from cmgems.explanation.of_classifier import ClassifierExplainer
from cmgems.explanation.substitutions import importance
from cmgems.genome.alphabet import encode_bases
from cmgems.tokenization import SingleBases

CONTIG = "".join(np.random.default_rng(1).choice(list("ACGT"), 60))
BED = "1\t5\t17\ta\t0\t+\n1\t11\t23\tb\t0\t-\n1\t50\t70\tend\t0\t+\n9\t1\t2\tother\t0\t+\n"
COMPLEMENT = str.maketrans("ACGT", "TGCA")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A classifier, a genome and intervals."""
    folder = tmp_path_factory.mktemp("inputs")
    save_random_classifier(folder / "classifier", "multilabel", "forward", SingleBases(3))
    (folder / "genome.fa").write_text(f">chr1\n{CONTIG}\n")
    (folder / "in.bed").write_text(BED)
    return folder


def call(folder, out, *more):
    places = [str(folder / "in.bed"), "--genome", str(folder / "genome.fa"), "--out", str(out)]
    return main(["explain", str(folder / "classifier"), *places, *more])


def test_intervals_on_both_strands(inputs, tmp_path, capsys):
    out = tmp_path / "out"
    (tmp_path / "motifs").write_text(f"here {CONTIG[8:16]}\nnowhere {'A' * 12}\n")
    options = ("--class", "a", "--shown", "10", "--motifs", str(tmp_path / "motifs"))
    assert call(inputs, out, "--gradients", *options) == 0
    printed = capsys.readouterr().out
    assert "2 explanations" in printed
    assert "without one: 2 not in the genome" in printed
    skipped = (out / "skipped.tsv").read_text().splitlines()
    assert [line.split("\t")[:4] for line in skipped[1:]] == [
        ["1", "50", "70", "end"],
        ["9", "1", "2", "other"],
    ]
    texts = [CONTIG[5:17], CONTIG[11:23].translate(COMPLEMENT)[::-1]]
    explainer = ClassifierExplainer(Predictor(load_classifier(inputs / "classifier")), "a")
    wanted = [explainer.explain(encode_bases(text)) for text in texts]
    with np.load(out / "explanations.npz") as found:
        assert found["places"].tolist() == [["1", "5", "17", "a", "+"], ["1", "11", "23", "b", "-"]]
        assert found["starts"].tolist() == [5, 11]
        np.testing.assert_allclose(found["effects"], [each.effects for each in wanted], atol=1e-6)
        np.testing.assert_allclose(found["scores"], [each.score for each in wanted], atol=1e-6)
        assert found["gradients"].shape == (2, 12, 4)
    track = [line.split("\t") for line in (out / "importance.bedGraph").read_text().splitlines()]
    assert [int(row[1]) for row in track[1:]] == list(range(5, 23))
    assert all(row[0] == "1" and int(row[2]) == int(row[1]) + 1 for row in track[1:])
    first, second = importance(wanted[0].effects), importance(wanted[1].effects)[::-1]
    values = [*first[:6], *((first[6:] + second[:6]) / 2), *second[6:]]
    np.testing.assert_allclose([float(row[3]) for row in track[1:]], values, rtol=1e-4, atol=1e-6)
    page = (out / "index.html").read_text()
    assert page.count("<svg") == 3
    assert "log-odds of a" in page
    rows = [line.split("\t") for line in (out / "motifs.tsv").read_text().splitlines()]
    assert {row[0]: row[2] for row in rows[1:]} == {"here": "1", "nowhere": "0"}
    assert page.index("<h2>Motifs</h2>") < page.index("<td>nowhere</td>")
    assert "r = " in page
    assert (out / "logo.png").read_bytes().startswith(b"\x89PNG")
    assert not (out / "parts").exists()


def test_an_interrupted_call_ends_as_one_that_was_not(inputs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(explain, "_ITEMS", 1)
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert call(inputs, whole) == 0
    explained = ClassifierExplainer.explain
    calls = []

    def interrupted(self, codes):
        calls.append(len(codes))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return explained(self, codes)

    monkeypatch.setattr(ClassifierExplainer, "explain", interrupted)
    assert call(inputs, out) == 130
    assert call(inputs, out, "--class", "a") == 2
    assert "holds an explanation with another name" in capsys.readouterr().err
    assert call(inputs, out) == 0
    assert len(calls) == 3  # the first of the two was not explained again
    for name in ("explanations.npz", "importance.bedGraph", "index.html", "explain.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert call(inputs, out) == 2
    assert "holds this explanation already" in capsys.readouterr().err


def test_long_and_short_sequences_and_a_language_model(inputs, pretrained_run, tmp_path, capsys):
    fasta, out = tmp_path / "in.fa", tmp_path / "out"
    fasta.write_text(f">long\n{CONTIG}\n>empty\nNNNN\n>short one\nACGT\n")
    given = ["explain", str(inputs / "classifier"), str(fasta), "--out", str(out)]
    assert main(given) == 0
    assert "2 explanations" in (printed := capsys.readouterr().out)
    assert "1 no known base" in printed
    assert "1 read in their middle alone" in printed
    with np.load(out / "explanations.npz") as found:
        assert found["lengths"].tolist() == [38, 4]
        assert found["starts"].tolist() == [11, 0]
        assert np.isnan(found["effects"][1, 4:]).all()
        assert (found["codes"][1, 4:] == 4).all()
    assert not (out / "logo.png").exists()
    given = ["explain", str(pretrained_run), str(fasta), "--dependencies", "2", "--attention", "4"]
    given += ["--shown", "8"]
    assert main([*given, "--out", str(tmp_path / "lm")]) == 0
    assert "2 too short" in capsys.readouterr().out
    with np.load(tmp_path / "lm/explanations.npz") as found:
        assert found["probabilities"].sum(2) == pytest.approx(np.ones((1, 60)), abs=1e-5)
        assert found["dependencies"].shape == (1, 2, 2)
        assert found["attention"].shape == (1, 2, 2, 4, 4)
    assert json.loads((tmp_path / "lm/explain.json").read_text())["dependencies"] == 2
    page = (tmp_path / "lm/index.html").read_text()
    assert page.count("attention layer ") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dependencies", "5"], "--dependencies: found .*classifier, wanted a language model"),
        (["--class", "x"], "--class: found x, wanted one of a, b"),
        (["--shown", "0"], "--shown: found 0, wanted 1 or more bases"),
        (["--motifs", "no.txt"], "no.txt: does not exist; wanted: matrices of JASPAR or MEME"),
        (["--step", "5"], "--step and --strand belong to --region"),
    ],
)
def test_what_is_refused_in_one_line(inputs, tmp_path, capsys, options, message):
    assert call(inputs, tmp_path / "out", *options) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert re.search(message, line)
    assert not (tmp_path / "out").exists()
