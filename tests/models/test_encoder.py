"""The packed encoder with its short last layer equals a plain padded one: loss and gradients."""

import pytest
import torch
import torch.nn.functional as F
from helpers.encoders import tiny_config
from references import encoder as reference_encoder

from cmgems.config.encoders import PRESETS, Model, encoder_keys
from cmgems.config.schema import Experiment
from cmgems.models.build import build_model
from cmgems.models.encoder import MaskedLanguageModel, aligned_linear
from cmgems.models.layouts import SequenceLayout
from cmgems.models.linear import linear

SHAPE = tiny_config(intermediate_size=48)
LENGTHS = (17, 17, 9, 3, 30, 30, 30)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = MaskedLanguageModel(SHAPE).double()
    for parameter in model.parameters():  # nothing at 0 or 1, where a slip would not show
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def batch():
    """Padded ids, which places are real, and which are predicted (none of the 4th sequence)."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, SHAPE.vocab_size, (len(LENGTHS), max(LENGTHS)), generator=generator)
    real = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    predicted = (torch.rand(ids.shape, generator=generator) < 0.2) & real
    predicted[3] = False
    return ids, real, predicted


def test_loss_and_gradients_equal_the_reference(model, batch):
    ids, real, predicted = batch
    targets = ids[predicted].flip(0)
    plain = F.cross_entropy(reference_encoder.logits(model, ids, real)[predicted], targets)
    wanted = torch.autograd.grad(plain, list(model.parameters()))

    packed = model(ids[real], SequenceLayout.of(LENGTHS), predicted[real].nonzero()[:, 0])
    loss = F.cross_entropy(packed, targets)
    found = torch.autograd.grad(loss, list(model.parameters()))
    assert loss.item() == pytest.approx(plain.item(), abs=1e-12)
    for (name, _), one, other in zip(model.named_parameters(), found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-10), name


def test_states_at_all_positions_equal_the_reference(model, batch):
    ids, real, _ = batch
    wanted = reference_encoder.states(model.encoder, ids, real)[real]
    assert torch.allclose(model.encoder(ids[real], SequenceLayout.of(LENGTHS)), wanted, atol=1e-12)


def test_nothing_to_predict_keeps_every_weight_in_the_graph(model, batch):
    """DDP waits for the gradient of every weight, in every micro-batch."""
    ids, real, _ = batch
    none = torch.empty(0, dtype=torch.int64)
    logits = model(ids[real], SequenceLayout.of(LENGTHS), none)
    assert logits.shape == (0, SHAPE.vocab_size)
    logits.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_dropout_is_off_in_evaluation_and_on_in_training(batch):
    ids, real, predicted = batch
    at = predicted[real].nonzero()[:, 0]
    model = MaskedLanguageModel(tiny_config(num_layers=2, dropout=0.5))
    model.eval()
    assert torch.equal(*(model(ids[real], SequenceLayout.of(LENGTHS), at) for _ in range(2)))
    model.train()
    assert not torch.equal(*(model(ids[real], SequenceLayout.of(LENGTHS), at) for _ in range(2)))


@pytest.mark.parametrize("classes", [69, 64, 4101])
def test_aligned_classes_change_nothing(classes):
    x, weight, bias = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((5, 8), (classes, 8), (classes,))
    )
    ones, others = linear(x, weight, bias), aligned_linear(x, weight, bias)
    assert torch.allclose(ones, others, rtol=0, atol=1e-12)
    gradient = torch.randn(5, classes, dtype=torch.float64)
    wanted = torch.autograd.grad(ones, (x, weight, bias), gradient)
    found = torch.autograd.grad(others, (x, weight, bias), gradient)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [
        # tokens V D + positions 512 D + layers + head; LOGO and BERT-base counted by hand
        ("small", 4101 * 128 + 512 * 128 + 256 + 2 * 198_272 + 128 * 129 + 256 + 4101),
        ("logo", 4101 * 256 + 512 * 256 + 512 + 2 * 1_840_384 + 256 * 257 + 512 + 4101),
        ("dnabert", 4101 * 768 + 512 * 768 + 1536 + 12 * 7_087_872 + 768 * 769 + 1536 + 4101),
    ],
)
def test_presets_have_the_papers_sizes(preset, parameters):
    model = build_model(Experiment(model=Model(preset=preset)))
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_sizes_can_be_overridden_one_by_one():
    keys = encoder_keys(Model(preset="logo", num_layers=4, biases=False))
    assert keys.items() >= (PRESETS["logo"] | {"num_layers": 4, "biases": False}).items()
    assert (keys["norm"], keys["max_position_embeddings"]) == ("post", 512)
