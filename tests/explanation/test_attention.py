"""Attention between bases, against the weights of the plain encoder, base by base."""

import numpy as np
import pytest
import torch
from helpers.encoders import tiny_config
from references import encoder as reference

from cmgems.errors import UserError
from cmgems.explanation.attention import attention_maps, check_attention
from cmgems.genome.alphabet import encode_bases
from cmgems.models.encoder import Encoder
from cmgems.tokenization import NonOverlappingKmers, OverlappingKmers, SingleBases

TEXT = "ACGTTGCANCGGTCAACGTGA"
# Which bases are under which token, by hand; of 6-mers side by side the rest is single bases.
TOKENS = {
    "kmers": (OverlappingKmers(3), [range(n, n + 3) for n in range(19)]),
    "bases": (SingleBases(3), [range(n, n + 1) for n in range(21)]),
    "side by side": (
        NonOverlappingKmers(4),
        [range(4), range(4, 8), range(8, 9), range(9, 13), range(13, 17), range(17, 21)],
    ),
}
ENCODERS = {
    "learned": {},
    "rotary, local": {
        "position_embedding": "rotary",
        "norm": "pre",
        "local_attention": 4,
        "global_attention_every_n_layers": 2,
    },
    "alibi, convolutions": {"position_embedding": "alibi", "attention_every_n_layers": 2},
}


def make_encoder(tokenization, **changes):
    torch.manual_seed(0)
    encoder = Encoder(tiny_config(vocab_size=tokenization.vocab_size, **changes)).double().eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder


def slow_maps(encoder, tokenization, under, monkeypatch):
    """[A, H, L, L] of all bases, one pair at a time."""
    ids = [2, *tokenization.encode(torch.from_numpy(encode_bases(TEXT)[None]))[0].tolist(), 3]
    seen, weights = [], reference.attention_weights
    with monkeypatch.context() as patched, torch.no_grad():
        patched.setattr(
            reference, "attention_weights", lambda *of: seen.append(weights(*of)) or seen[-1]
        )
        reference.states(encoder, torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool))
    maps = np.zeros((len(seen), 4, len(TEXT), len(TEXT)))
    for layer, each in enumerate(seen):
        for query, row in enumerate(under):
            for key, column in enumerate(under):
                weight = each[0, :, query + 1, key + 1].numpy()
                for i in row:
                    over = sum(i in other for other in under)
                    for j in column:
                        maps[layer, :, i, j] += weight / over / len(column)
    return maps


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("changes", ENCODERS)
def test_maps_equal_the_slow_ones(tokens, changes, monkeypatch):
    tokenization, under = TOKENS[tokens]
    encoder = make_encoder(tokenization, **ENCODERS[changes])
    wanted = slow_maps(encoder, tokenization, under, monkeypatch)
    found = attention_maps(encoder, tokenization, encode_bases(TEXT), 30)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert len(found) == (1 if "convolutions" in changes else 3)
    middle = attention_maps(encoder, tokenization, encode_bases(TEXT), 5)
    np.testing.assert_allclose(middle, wanted[:, :, 8:13, 8:13], atol=1e-6)
    assert found.std() > 1e-3


def test_of_too_many_tokens_those_in_the_middle_are_read():
    encoder = make_encoder(SingleBases(3), max_position_embeddings=13)
    found = attention_maps(encoder, SingleBases(3), encode_bases(TEXT), 21)
    alone = attention_maps(encoder, SingleBases(3), encode_bases(TEXT[5:16]), 21)
    np.testing.assert_allclose(found[:, :, 5:16, 5:16], alone, atol=1e-6)
    assert np.isnan(np.delete(found, range(5, 16), 2)).all()
    assert (np.delete(found[:, :, 5:16], range(5, 16), 3) == 0).all()


def test_local_attention_of_long_rows_is_put_together():
    """A row that is cut into blocks has the weights of the same row whole."""
    encoder = make_encoder(
        SingleBases(3),
        local_attention=4,
        global_attention_every_n_layers=0,
        max_position_embeddings=300,
    )
    codes = np.random.default_rng(0).integers(0, 4, 290).astype(np.uint8)
    found = attention_maps(encoder, SingleBases(3), codes, 290)
    near = np.abs(np.subtract.outer(np.arange(290), np.arange(290))) <= 2
    assert (found[:, :, ~near] == 0).all()
    assert (found[:, :, near] > 0).all()
    np.testing.assert_allclose(found[:, :, 2:-2].sum(-1), 1, atol=1e-6)
    first = attention_maps(encoder, SingleBases(3), codes[:200], 200)[0]  # read whole
    np.testing.assert_allclose(found[0, :, :190, :190], first[:, :190, :190], atol=1e-6)


def test_encoders_without_attention_are_refused():
    encoder = make_encoder(SingleBases(3), attention_every_n_layers=0)
    with pytest.raises(UserError, match="found convolutions alone, wanted layers with attention"):
        check_attention(encoder)
