"""Motifs of files, and where they match: against Biopython's scores and all words of a length."""

import sys
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from Bio import motifs as biopython

from cmgems.errors import UserError
from cmgems.genome.alphabet import BASES, encode_bases
from cmgems.inference.motif_matches import (
    composition,
    find_matches,
    score_of_match,
    score_table,
)
from cmgems.inference.motifs import Motif, read_motifs

JASPAR = """\
>MA0139.1\tCTCF
A  [ 87 167 281 56 ]
C  [ 291 145 49 800 ]
G  [ 76 414 449 21 ]
T  [ 459 187 134 36 ]
"""
MEME = """\
MEME version 4

ALPHABET= ACGT

MOTIF MA1 first
letter-probability matrix: alength= 4 w= 2 nsites= 20 E= 0
 0.1 0.2 0.7 0.0
 0.0 0.0 0.5 0.5

MOTIF second
letter-probability matrix: alength= 4 w= 1 nsites= 10 E= 0
 1 0 0 0
"""


def read(tmp_path, text):
    (tmp_path / "m").write_text(text)
    return read_motifs(tmp_path / "m")


@pytest.mark.parametrize("more", ["", "Background letter frequencies\nA 0.3 C 0.2 G 0.2 T 0.3\n\n"])
def test_matrices_and_lines(tmp_path, more):
    (motif,) = read(tmp_path, JASPAR)
    assert (motif.name, motif.consensus) == ("MA0139.1 CTCF", "TGGC")
    assert motif.counts[0].tolist() == [87, 459, 291, 76]  # A T C G
    first, second = read(tmp_path, MEME.replace("MOTIF MA1", more + "MOTIF MA1"))
    assert (first.consensus[0], second.name, second.consensus) == ("G", "second", "A")
    np.testing.assert_allclose(first.counts / first.counts.sum(1, keepdims=True),
                               [[0.1, 0, 0.2, 0.7], [0, 0.5, 0, 0.5]])  # fmt: skip
    lines = read(tmp_path, "# two\none tggc\n\ntwo A\n")
    assert [(each.name, each.consensus) for each in lines] == [("one", "TGGC"), ("two", "A")]
    assert lines[1].counts.tolist() == [[1, 0, 0, 0]]
    (several,) = read(tmp_path, "three ynku\n")  # C or T, any, G or T, T
    assert several.consensus == "TATT"
    y, k = [0, 0.5, 0.5, 0], [0, 0.5, 0, 0.5]
    assert several.counts.tolist() == [y, [0.25] * 4, k, [0, 1, 0, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# none\n", "has no motif, wanted matrices of JASPAR or MEME, lines of a name"),
        ("a ACGJ\n", "a: found the consensus 'ACGJ', wanted A, C, G, T or the letters for several"),
        ("a NNN\n", "a: found the consensus 'NNN', wanted A, C, G, T or the letters for several"),
        ("a ACGT 5\n", "line 1: found 'a ACGT 5', wanted a name and letters"),
        (">x\nA [ 1 2\nC [ 1\n", "is no file of matrices"),
        (JASPAR.replace("187 134", "187"), "is no file of matrices"),
        (
            JASPAR.replace("[ 87 ", "[ -1 "),
            "MA0139.1 CTCF: has a place without a count, or a count",
        ),
        (MEME.replace("1 0 0 0", "0 0 0 0"), "second: has a place without a count"),
    ],
)
def test_what_is_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


def test_jaspar_is_read_by_pyjaspar(monkeypatch):
    matrix = biopython.Motif("ACGT", counts={"A": [9, 0], "C": [0, 1], "G": [0, 8], "T": [0, 0]})
    matrix.matrix_id, matrix.name = "MA1.1", "made"
    asked = []
    database = SimpleNamespace(
        fetch_motifs=lambda **which: asked.append(which) or [matrix],
        conn=SimpleNamespace(close=lambda: asked.append("closed")),
    )
    monkeypatch.setitem(sys.modules, "pyjaspar", SimpleNamespace(jaspardb=lambda: database))
    (motif,) = read_motifs("jaspar")
    assert (motif.name, motif.consensus) == ("MA1.1 made", "AG")
    assert asked == [{"collection": "CORE", "tax_group": ["vertebrates"]}, "closed"]
    monkeypatch.setitem(sys.modules, "pyjaspar", None)
    with pytest.raises(UserError, match=r"pip install 'cmgems\[motifs\]'"):
        read_motifs("jaspar")


BACKGROUND = np.array([0.3, 0.3, 0.2, 0.2])


def random_motif(seed, size):
    counts = np.random.default_rng(seed).dirichlet([0.3] * 4, size) * 50
    return Motif("m", counts.argmax(1).astype(np.uint8), counts)


@pytest.mark.parametrize("size", [3, 7])
def test_a_match_is_as_rare_as_all_words_say(size):
    motif = random_motif(size, size)
    table = score_table(motif, BACKGROUND)
    scores, shares = [], []
    for word in product(range(4), repeat=size):
        scores.append(sum(int(table[n, base]) for n, base in enumerate(word)))
        shares.append(np.prod(BACKGROUND[list(word)]))
    scores, shares = np.array(scores), np.array(shares)
    least = score_of_match(table, BACKGROUND)
    assert least <= scores.max()
    if size == 7:
        assert shares[scores >= least].sum() <= 1e-4 < shares[scores >= least - 1].sum()
    else:  # even the best word is more frequent
        assert least == scores.max()


def test_matches_are_those_of_biopython_on_both_strands():
    motif = random_motif(0, 6)
    text = "".join(np.random.default_rng(1).choice(list("ACGT"), 5000))
    text = text[:2000] + "N" + text[2000:]
    background = composition(encode_bases(text))
    assert background.tolist() == pytest.approx(
        [(text.count(a) + text.count(b) + 2) / 10_008 for a, b in ("AT", "TA", "CG", "GC")]
    )
    found = find_matches(motif, encode_bases(text), background)
    counts = {base: motif.counts[:, code].tolist() for code, base in enumerate(BASES)}
    by_base = dict(zip(BASES, background, strict=True))
    matrix = biopython.Motif("ACGT", counts={base: counts[base] for base in "ACGT"})
    pssm = matrix.counts.normalize(pseudocounts=by_base).log_odds(by_base)
    least = score_of_match(score_table(motif, background), background) / 100
    scores = np.fmax(pssm.calculate(text), pssm.reverse_complement().calculate(text))
    differ = np.flatnonzero(found != (scores >= least))
    assert (np.abs(scores[differ] - least) < 0.03).all()  # six roundings of a hundredth
    assert found.sum() > 3
