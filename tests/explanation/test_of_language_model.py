"""Distributions and dependencies of a language model, against one hidden base at a time."""

from math import log, log2

import numpy as np
import pytest
from helpers.encoders import tiny_language_model
from references.variants import slow_distribution

from cmgems.explanation.of_language_model import LanguageModelExplainer
from cmgems.explanation.substitutions import information_heights
from cmgems.genome.alphabet import BASES, encode_bases
from cmgems.tokenization import OverlappingKmers

TEXT = "ACGTTGCAACG"


@pytest.fixture(scope="module")
def model():
    return tiny_language_model()


def test_effects_are_log_ratios_of_the_distribution_of_a_hidden_base(model):
    found = LanguageModelExplainer(model, OverlappingKmers(3)).explain(encode_bases(TEXT))
    total = 0.0
    for place, letter in enumerate(TEXT):
        p = slow_distribution(model, TEXT, place)
        own = p[BASES.index(letter)]
        total += log(own)
        assert found.probabilities[place] == pytest.approx(list(p), abs=1e-5)
        assert found.effects[place] == pytest.approx([log(q / own) for q in p], abs=1e-4)
    assert found.score == pytest.approx(total, abs=1e-4)
    assert found.dependencies is None


def test_dependencies_are_the_largest_change_of_log_odds(model):
    explainer = LanguageModelExplainer(model, OverlappingKmers(3), dependencies=3)
    found = explainer.explain(encode_bases(TEXT)).dependencies
    places = (4, 5, 6)  # of 11 bases
    own = {place: slow_distribution(model, TEXT, place) for place in places}
    for row, changed in enumerate(places):
        for column, target in enumerate(places):
            largest = 0.0
            for base in BASES:
                mutant = TEXT[:changed] + base + TEXT[changed + 1 :]
                if target != changed:
                    p = slow_distribution(model, mutant, target)
                    change = [_odds(a) - _odds(b) for a, b in zip(p, own[target], strict=True)]
                    largest = max(largest, *map(abs, change))
            assert found[row, column] == pytest.approx(largest, abs=1e-3)
    assert found[0, 1] > 0.05


def _odds(p):
    return log2(p / (1 - p))


def test_unknown_bases_have_no_distribution(model):
    explainer = LanguageModelExplainer(model, OverlappingKmers(3), dependencies=20)
    found = explainer.explain(encode_bases("ACGTTNACGTT"))
    assert np.flatnonzero(np.isnan(found.probabilities).all(1)).tolist() == [5]
    assert np.flatnonzero(np.isnan(found.effects).any(1)).tolist() == [5]
    assert found.dependencies.shape == (11, 11)
    assert np.isnan(found.dependencies[5]).all()
    assert np.isnan(found.dependencies[:, 5]).all()
    assert np.isfinite(np.delete(np.delete(found.dependencies, 5, 0), 5, 1)).all()
    assert np.isfinite(explainer.heights(found)).all()


def test_heights_are_the_information_of_a_distribution():
    rows = np.array([[0.25] * 4, [1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [np.nan] * 4])
    heights = information_heights(rows)
    assert heights.tolist() == [[0] * 4, [2.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0] * 4]
