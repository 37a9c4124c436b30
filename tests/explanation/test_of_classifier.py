"""In-silico mutagenesis of classifiers, against one mutant at a time, in float64."""

from itertools import product

import numpy as np
import pytest
import torch
from helpers.classifiers import KINDS, save_random_classifier

from cmgems.errors import UserError
from cmgems.evaluation.finetuning.classifier import load_classifier
from cmgems.evaluation.prediction.predictor import Predictor
from cmgems.explanation.of_classifier import ClassifierExplainer
from cmgems.explanation.substitutions import importance
from cmgems.genome.alphabet import BASES, encode_bases
from cmgems.tasks.dataset import pack_codes
from cmgems.tasks.tokens import tokenize
from cmgems.tokenization import NonOverlappingKmers, OverlappingKmers, SingleBases

TEXT = "ACGTTGCANCGGTCA"
COMPLEMENT = str.maketrans("ACGTN", "TGCAN")
TOKENS = (OverlappingKmers(3), SingleBases(3), NonOverlappingKmers(3))


@pytest.fixture
def predictor(tmp_path, kind, strands, tokens):
    """In float64."""
    loaded = load_classifier(save_random_classifier(tmp_path, kind, strands, tokens))
    loaded.classifier.double()
    return Predictor(loaded)


@torch.no_grad()
def slow_log_odds(predictor, text, column):
    """What the classifier says of one sequence, a strand at a time."""
    reverse = text.translate(COMPLEMENT)[::-1]
    logits = np.mean(
        [
            predictor.classifier.differentiable_logits(
                tokenize(pack_codes([encode_bases(each)]), predictor.tokenization, 40)
            )[0].numpy()
            for each in ([text, reverse] if predictor.both_strands else [text])
        ],
        axis=0,
    )
    if predictor.kind == "regression":
        return 3.0 * logits[0]
    if predictor.kind == "multilabel":
        return logits[column]
    p = (np.exp(logits) / np.exp(logits).sum())[column]
    return np.log(p / (1 - p))


@pytest.mark.parametrize(
    ("kind", "strands", "tokens", "name"),
    [
        ("binary", "forward", TOKENS[0], ""),
        ("multiclass", "both", TOKENS[1], "donor"),
        ("multilabel", "both", TOKENS[2], "b"),
        ("regression", "forward", TOKENS[0], ""),
    ],
)
def test_effects_equal_those_of_single_mutants(predictor, kind, name):
    column = KINDS[kind].index(name) if name else len(KINDS[kind]) - 1
    found = ClassifierExplainer(predictor, name).explain(encode_bases(TEXT))
    own = slow_log_odds(predictor, TEXT, column)
    for place, (letter, base) in product(range(len(TEXT)), enumerate(BASES)):
        if TEXT[place] == "N":
            assert np.isnan(found.effects[place]).all()
            continue
        mutant = TEXT[:place] + base + TEXT[place + 1 :]
        wanted = slow_log_odds(predictor, mutant, column) - own
        assert found.effects[place, letter] == pytest.approx(wanted, abs=1e-10)
    assert np.nanmax(np.abs(found.effects)) > 0.1
    assert found.effects.dtype == np.float64


@pytest.mark.parametrize("tokens", TOKENS, ids=lambda tokens: tokens.name)
@pytest.mark.parametrize("strands", ["forward", "both"])
@pytest.mark.parametrize("kind", ["binary"])
def test_gradients_are_the_slope_of_small_steps_towards_a_mutant(predictor, strands):
    """The slope at 0 of the way from the embeddings of the sequence to those of the mutant."""
    found = ClassifierExplainer(predictor, gradients=True).explain(encode_bases(TEXT))
    for place, base in ((0, "G"), (5, "A"), (14, "C")):
        mutant = TEXT[:place] + base + TEXT[place + 1 :]
        slopes = []
        texts = [(TEXT, mutant)]
        if strands == "both":
            texts.append((TEXT.translate(COMPLEMENT)[::-1], mutant.translate(COMPLEMENT)[::-1]))
        for own, other in texts:
            values = [_on_the_way(predictor, own, other, step) for step in (-1e-4, 1e-4)]
            slopes.append((values[1] - values[0]) / 2e-4)
        letter = BASES.index(base)
        assert found.gradients[place, letter] == pytest.approx(np.mean(slopes), abs=1e-6)
        assert found.gradients[place, BASES.index(TEXT[place])] == 0
    assert np.isnan(found.gradients[TEXT.index("N")]).all()
    assert np.nanmax(np.abs(found.gradients)) > 0.1


@torch.no_grad()
def _on_the_way(predictor, text, mutant, step):
    """Log-odds of the second class with embeddings moved by a step towards those of a mutant."""
    table = predictor.classifier.encoder.tokens
    tokens, others = (
        tokenize(pack_codes([encode_bases(each)]), predictor.tokenization, 40)
        for each in (text, mutant)
    )
    move = table(others.ids_NL[0].long()) - table(tokens.ids_NL[0].long())
    hook = table.register_forward_hook(lambda module, inputs, output: output + step * move)
    logits = predictor.classifier.differentiable_logits(tokens)[0]
    hook.remove()
    return float(logits[1] - logits[0])


def test_importance_is_the_mean_loss():
    effects = np.array([[0.0, -1.0, -2.0, -3.0], [1.0, 0.0, 1.0, 1.0]])
    assert importance(effects).tolist() == [2.0, -1.0]


@pytest.mark.parametrize(
    ("kind", "strands", "tokens"), [("multiclass", "forward", OverlappingKmers(3))]
)
def test_a_class_that_is_not_one_is_refused(predictor):
    with pytest.raises(UserError, match="--class: found none, wanted one of none, donor"):
        ClassifierExplainer(predictor)
    with pytest.raises(UserError, match="--class: found x, wanted one of none, donor, acceptor"):
        ClassifierExplainer(predictor, "x")
