"""The supervised network: it finds motifs, is the same twice, stops where dev is best."""

import numpy as np
import pytest
import torch
from helpers.labelled_samples import random_sequences

from cmgems.evaluation import cnn
from cmgems.evaluation.cnn import cnn_baseline
from cmgems.evaluation.metrics import score
from cmgems.tasks.dataset import from_sequences


@pytest.fixture(autouse=True, scope="module")
def small():
    """A network that trains in a tenth of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cnn, "FILTERS", 16)
        patch.setattr(cnn, "MAX_EPOCHS", 15)
        patch.setattr(cnn, "LEARNING_RATE", 1e-2)
        yield


def planted(count, seed, place=None, length=32):
    """Random sequences, in every second of which a word stands: at `place`, or anywhere."""
    generator = np.random.default_rng(seed)
    found, word = random_sequences(count, length, seed), "TGACGTCATT"
    for i in range(0, count, 2):
        at = int(generator.integers(0, length - len(word))) if place is None else place
        found[i] = found[i][:at] + word + found[i][at + len(word) :]
    return from_sequences(found, (np.arange(count) % 2 == 0).astype(np.int64))


@pytest.fixture(scope="module")
def motifs():
    """Training and test examples, and what the network predicts of the latter."""
    train, test = planted(150, 1), planted(100, 2)
    return train, test, cnn_baseline(train, test, "binary", 2)


def test_it_finds_a_motif_wherever_it_is(motifs):
    _, test, prediction = motifs
    assert score(prediction.logits, test.labels, "binary").auroc > 0.95
    assert prediction.chosen["parts"] == 1
    assert 1 <= prediction.chosen["epoch"] <= cnn.MAX_EPOCHS


def test_it_is_a_function_of_seed_and_examples(motifs):
    train, test, first = motifs
    torch.manual_seed(5)
    again = cnn_baseline(train, test, "binary", 2)
    assert np.array_equal(again.logits, first.logits)
    assert again.chosen == first.chosen
    other = cnn_baseline(train, test, "binary", 2, seed=1)
    assert not np.array_equal(other.logits, first.logits)


def test_on_both_strands_a_sequence_and_its_reverse_complement_are_one(motifs):
    train, test, _ = motifs
    train, test = train.select(np.arange(30)), test.select(np.arange(20))
    both = concatenated(test, test.reverse_complement())
    logits = cnn_baseline(train, both, "binary", 2, strands=2).logits
    assert logits[:20] == pytest.approx(logits[20:], abs=1e-5)


def concatenated(*parts):
    texts = [part.text(i) for part in parts for i in range(len(part))]
    return from_sequences(texts, np.concatenate([part.labels for part in parts]))


def test_dev_chooses_the_epoch():
    """Where the labels of dev are turned round the first epochs are the least wrong."""
    train, dev = planted(100, 1, 5), planted(60, 2, 5)
    turned = from_sequences([dev.text(i) for i in range(60)], 1 - dev.labels)
    right = cnn_baseline(train, dev, "binary", 2, dev=dev)
    wrong = cnn_baseline(train, dev, "binary", 2, dev=turned)
    assert wrong.chosen["epoch"] < right.chosen["epoch"]
    assert score(right.logits, dev.labels, "binary").accuracy == 1.0


def test_every_kind_of_task_and_length():
    """Several labels, a regression in the unit of its labels, a class without an example, sequences
    shorter than a motif."""
    texts = [*random_sequences(37, 20), "ACG", "N", "ACGTTGCA" * 6]
    amount = np.array([text.count("G") / len(text) for text in texts], np.float32)
    data = from_sequences(texts, 100 + 10 * amount)
    values = cnn_baseline(data, data, "regression", 0).logits
    assert values.shape == (40,)
    assert 98 < values.mean() < 112
    assert np.corrcoef(values, amount)[0, 1] > 0.5
    labels = np.stack([amount > 0.25, amount < 0.25, amount > 2], 1).astype(np.int64)
    several = cnn_baseline(from_sequences(texts, labels), data, "multilabel", 3).logits
    assert several.shape == (40, 3)
    absent = from_sequences(texts, 2 * (amount > 0.25).astype(np.int64))
    logits = cnn_baseline(absent, data, "multiclass", 3).logits
    assert logits.shape == (40, 3)
    assert not (logits.argmax(1) == 1).any()


def test_bases_are_laid_middle_on_middle():
    data = from_sequences(["ACGT", "NCGN", "AACGTT", "CG", ""], np.zeros(5))
    codes = cnn._codes(data, 4, "cpu").tolist()
    assert codes == [[0, 2, 3, 1], [4, 2, 3, 4], [0, 2, 3, 1], [4, 2, 3, 4], [4] * 4]


def test_the_network_equals_one_that_is_written_out():
    """One-hot bases, the dot product with each motif at each place, the largest of each part."""
    model = cnn.MotifNetwork(2, 4)
    codes = torch.randint(0, 5, (1, 32), dtype=torch.uint8)
    bases = np.zeros((4, 32 + 14))
    for place, code in enumerate(codes[0].tolist()):
        if code < 4:
            bases[code, place + 7] = 1
    motifs, bias = (x.detach().numpy() for x in model.motifs.parameters())
    places = [(motifs * bases[:, at : at + 15]).sum((1, 2)) + bias for at in range(32)]
    parts = [np.maximum(places[at : at + 8], 0).max(0) for at in range(0, 32, 8)]
    wanted = model.output(torch.tensor(np.stack(parts, 1).ravel(), dtype=torch.float32))
    assert torch.allclose(model(codes)[0], wanted, atol=1e-5)
