"""Likelihoods of sequences, against the slow and obvious way."""

import numpy as np
import pytest
import torch
from helpers.encoders import tiny_config
from references.variants import slow_distribution, slow_log_likelihood

from cmgems.errors import UserError
from cmgems.genome.alphabet import BASES, encode_bases
from cmgems.inference.likelihood import base_distribution, pseudo_log_likelihood
from cmgems.models.encoder import MaskedLanguageModel
from cmgems.tokenization import OverlappingKmers

K = 3
SHAPE = tiny_config(num_layers=2, hidden_size=16, num_heads=2)
TEXT = "ACGTTGCAACGGTCAT"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = MaskedLanguageModel(SHAPE).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def test_distribution_equals_the_slow_one(model):
    codes, places = encode_bases(TEXT), np.arange(len(TEXT))
    found = base_distribution(model, OverlappingKmers(K), np.tile(codes, (len(places), 1)), places)
    wanted = torch.tensor([slow_distribution(model, TEXT, p) for p in places])
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.allclose(found.sum(1), torch.ones(len(places)), atol=1e-5)


def test_likelihood_is_the_sum_over_the_bases(model):
    wanted = slow_log_likelihood(model, TEXT, range(len(TEXT)))
    found = pseudo_log_likelihood(model, OverlappingKmers(K), encode_bases(TEXT))
    assert found.bases == len(TEXT)
    assert found.total == pytest.approx(wanted, abs=1e-3)


def test_the_base_itself_is_hidden(model):
    """What stands at the place must not matter to its own distribution."""
    place = np.array([7])
    rows = [encode_bases(TEXT[:7] + base + TEXT[8:])[None] for base in BASES]
    found = [base_distribution(model, OverlappingKmers(K), row, place) for row in rows]
    assert all(torch.equal(one, found[0]) for one in found)


def test_unknown_bases_are_not_scored(model):
    found = pseudo_log_likelihood(model, OverlappingKmers(K), encode_bases("ACGTNNACNGTTACG"))
    # N itself, and the AC between the Ns, of which no 3-mer is known
    assert found.bases == 4 + 6
    assert pseudo_log_likelihood(model, OverlappingKmers(K), encode_bases("NNNNN")).bases == 0
    with pytest.raises(UserError, match="found a sequence that has 50 bases, wanted 3 to 40"):
        pseudo_log_likelihood(model, OverlappingKmers(K), encode_bases("A" * 50))
