"""Which motifs are where scores are high, against every rotation by hand."""

from itertools import product

import numpy as np
import pytest

from cmgems.evaluation.prediction.inputs import Item
from cmgems.explanation.arrays import stack
from cmgems.explanation.explainer import Explanation
from cmgems.explanation.motif_enrichment import (
    ScoredBases,
    _enrichment,
    collect,
    enrichments,
    write_table,
)
from cmgems.genome.alphabet import encode_bases
from cmgems.inference.motif_matches import composition, find_matches
from cmgems.inference.motifs import Motif


def consensus(name, letters):
    return Motif(name, encode_bases(letters), 20 * np.eye(4)[encode_bases(letters)])


def scored(texts, values):
    codes = np.concatenate([encode_bases(text + "N") for text in texts])
    importance = np.concatenate([[*each, np.nan] for each in values]).astype(float)
    importance[codes > 3] = np.nan
    return ScoredBases(codes, importance, np.cumsum([0, *(len(text) + 1 for text in texts)]))


def test_p_is_that_of_all_rotations():
    generator = np.random.default_rng(3)
    texts = ["ACGACGTTACGAA", "TTTACGNACGTT", "GGGGGGGG"]
    values = [generator.normal(size=len(text)) for text in texts]
    bases, motif = scored(texts, values), consensus("m", "ACG")
    found = _enrichment(bases, motif, composition(bases.codes_N))
    matches = [[i for i in range(len(t) - 2) if t[i : i + 3] in ("ACG", "CGT")] for t in texts]
    places = [[i for i in range(len(t) - 2) if "N" not in t[i : i + 3]] for t in texts]
    means = [[v[i : i + 3].mean() for i in p] for v, p in zip(values, places, strict=True)]
    ordered = sorted(mean for each in means for mean in each)
    least = ordered[int(np.ceil(0.95 * (len(ordered) - 1)))]
    high = [[mean >= least for mean in each] for each in means]
    counts = []
    for turns in product(*(range(len(p)) for p in places)):
        hits = 0
        for turn, p, m, h in zip(turns, places, matches, high, strict=True):
            hits += sum(h[(p.index(place) + turn) % len(p)] for place in m)
        counts.append(hits)
    assert found.matches == sum(map(len, matches)) == 7
    assert found.high == counts[0] > 0
    assert found.expected == pytest.approx(np.mean(counts))
    assert found.p == pytest.approx(np.mean(np.array(counts) >= counts[0]))


def test_a_motif_that_is_scored_is_found_and_others_are_not(tmp_path):
    """In each of 40 sequences one word on either strand is where the scores are high, another is
    not; the third is nowhere."""
    generator = np.random.default_rng(0)
    explanations, items = [], []
    for number in range(40):
        letters = list("".join(generator.choice(list("ACGT"), 80)))
        first, second = 5 + int(generator.integers(25)), 50 + int(generator.integers(15))
        letters[first : first + 8] = "TGACGTGG" if number % 2 else "CCACGTCA"
        letters[second : second + 8] = "GATTACAG"
        codes = encode_bases("".join(letters))
        effects = generator.normal(size=(80, 4)) * 0.1
        effects[first : first + 8] -= 1.0
        explanations.append(Explanation(codes, 0.0, effects))
        items.append(Item((str(number),), codes))
    parts = [stack(explanations[:25], items[:25]), stack(explanations[25:], items[25:])]
    motifs = [
        consensus("other", "GATTACAG"),
        consensus("one", "TGACGTGG"),
        consensus("no", "A" * 9),
    ]
    one, *rest = found = enrichments(collect(parts), motifs)
    assert one.motif.name == "one"
    assert one.matches >= 40
    assert one.high >= 38
    assert one.expected == pytest.approx(2, abs=0.6)
    assert one.q < 1e-20
    assert one.q == pytest.approx(3 * one.p)
    assert all(each.q > 0.5 for each in rest)
    write_table(found, tmp_path / "motifs.tsv")
    header, row, *_ = (tmp_path / "motifs.tsv").read_text().splitlines()
    assert header.split("\t") == [
        "motif",
        "consensus",
        "matches",
        "high",
        "expected",
        "ratio",
        "p",
        "q",
    ]
    assert row.split("\t")[:4] == ["one", "TGACGTGG", str(one.matches), str(one.high)]


def test_sequences_shorter_than_the_motif_have_no_place():
    bases = scored(["ACG", "AC"], [[1, 2, 3], [1, 2]])
    (found,) = enrichments(bases, [consensus("m", "ACGTA")])
    assert (found.matches, found.high, found.p, found.q) == (0, 0, 1, 1)
    assert not find_matches(found.motif, bases.codes_N, composition(bases.codes_N)).any()
