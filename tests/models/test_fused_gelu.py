"""The feed-forward that GPUs compute, by its formula: of the kernels see `tests/gpu`."""

import pytest
import torch
import torch.nn.functional as F
from helpers.encoders import tiny_config
from references import encoder as reference_encoder

from cmgems.models import fused_gelu
from cmgems.models.encoder import MaskedLanguageModel
from cmgems.models.layouts import SequenceLayout

LENGTHS = (11, 5, 9)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("biases", [True, False])
def test_loss_and_gradients_equal_the_reference(dtype, within, biases, monkeypatch):
    monkeypatch.setattr(fused_gelu, "serves", lambda x: True)
    torch.manual_seed(0)
    model = MaskedLanguageModel(tiny_config(biases=biases)).to(dtype)
    for parameter in model.parameters():  # nothing at 0 or 1, where a slip would not show
        torch.nn.init.normal_(parameter, std=0.3)
    real = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    ids = torch.randint(0, 69, real.shape)
    predicted = (torch.rand(ids.shape) < 0.3) & real
    targets = ids[predicted].flip(0)
    plain = F.cross_entropy(reference_encoder.logits(model, ids, real)[predicted], targets)
    wanted = torch.autograd.grad(plain, list(model.parameters()))

    packed = model(ids[real], SequenceLayout.of(LENGTHS), predicted[real].nonzero()[:, 0])
    loss = F.cross_entropy(packed, targets)
    found = torch.autograd.grad(loss, list(model.parameters()))
    assert "FeedForward" in _functions(loss)
    assert loss.item() == pytest.approx(plain.item(), rel=within)
    largest = max(gradient.abs().max() for gradient in wanted)
    for (name, _), one, other in zip(model.named_parameters(), found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=within * largest), name


def _functions(tensor):
    """Names of all that made it, in one string."""
    names, todo = set(), [tensor.grad_fn]
    while todo:
        function = todo.pop()
        names.add(function.name())
        todo += [before for before, _ in function.next_functions if before is not None]
    return " ".join(names)


def test_operations_tell_torch_what_they_return():
    x, up, bias = torch.rand(6, 4), torch.rand(10, 4), torch.rand(10)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.cmgems.up_gelu.default, (x, up, bias), test_utils=checks)
    given = (x, up.t().contiguous(), torch.rand(6, 10))
    torch.library.opcheck(torch.ops.cmgems.down_gelu_backward.default, given, test_utils=checks)


@pytest.mark.parametrize(
    ("kernels", "warning"),
    [
        (lambda device: 0.001, None),
        (lambda device: 0.5, "its kernels are 0.5 off"),
        (lambda device: float("nan"), "its kernels are nan off"),
        (lambda device: [][0], "IndexError: list index"),
    ],
    ids=["right", "wrong", "nan", "broken"],
)
def test_kernels_that_do_not_work_are_not_used(kernels, warning, monkeypatch, recwarn):
    monkeypatch.setattr(fused_gelu, "has_triton", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(fused_gelu, "_largest_error", kernels)
    assert fused_gelu._kernels_work.__wrapped__(0) == (warning is None)
    assert [warning in str(found.message) for found in recwarn] == [True] * (warning is not None)


@pytest.mark.parametrize("wrong", ["bias", "sum"])
def test_a_kernel_that_errs_is_found(wrong, monkeypatch):
    cpu = torch.device("cpu")
    assert fused_gelu._largest_error(cpu) == 0
    up, down = fused_gelu.up_gelu, fused_gelu.down_gelu_backward
    if wrong == "bias":
        monkeypatch.setattr(fused_gelu, "up_gelu", lambda x, weight, bias: up(x, weight, None))
    else:
        monkeypatch.setattr(
            fused_gelu, "down_gelu_backward", lambda *given: (down(*given)[0], 2 * down(*given)[1])
        )
    assert fused_gelu._largest_error(cpu) > fused_gelu.ALIKE
