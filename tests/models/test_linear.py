"""Products by oneDNN and arithmetic in bfloat16, against plain float64."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from cmgems.config.encoders import Model
from cmgems.config.schema import Experiment, Train
from cmgems.models.build import build_model
from cmgems.models.layouts import SequenceLayout
from cmgems.models.linear import linear


@pytest.mark.parametrize("with_bias", [True, False])
def test_product_and_gradients_in_float32(with_bias):
    generator = torch.Generator().manual_seed(0)
    x, weight, bias, gradient = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((70, 40), (30, 40), (30,), (70, 30))
    )
    given = [x, weight, bias] if with_bias else [x, weight]
    wanted_inputs = [part.requires_grad_() for part in given]
    inputs = [part.detach().float().requires_grad_() for part in given]
    wanted, found = F.linear(*wanted_inputs), linear(*inputs)
    assert torch.allclose(found.double(), wanted, atol=1e-5)
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        assert "OneDnn" in type(found.grad_fn).__name__
    wanted_gradients = torch.autograd.grad(wanted, wanted_inputs, gradient)
    gradients = torch.autograd.grad(found, inputs, gradient.float())
    for one, other in zip(gradients, wanted_gradients, strict=True):
        assert torch.allclose(one.double(), other, atol=1e-4)


def test_only_wanted_gradients_are_computed():
    x, weight = torch.randn(5, 4), torch.randn(3, 4, requires_grad=True)
    linear(x, weight).sum().backward()
    assert x.grad is None
    assert torch.allclose(weight.grad, x.sum(0).expand(3, 4), atol=1e-5)


def test_no_rows():
    x, weight = torch.empty(0, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    linear(x, weight).sum().backward()
    assert weight.grad.abs().sum() == 0


MEMORY = Path("/proc/self/statm")


@pytest.mark.skipif(not MEMORY.exists(), reason="the size of a process as Linux tells it")
def test_products_of_ever_new_shapes_leave_nothing_behind():
    """As `cmgems` sets oneDNN's caches. With torch's own, 200 shapes left 150 MB to 1 GB.

    (By what is resident: a new process may begin with the peak of the one that started it.)
    """
    code = f"""
import cmgems.cli, mmap, torch
from cmgems.models.linear import linear
def resident():
    return int(open("{MEMORY}").read().split()[1]) * mmap.PAGESIZE
weight, bias = torch.randn(512, 128, requires_grad=True), torch.zeros(512, requires_grad=True)
sizes = []
for rows in range(1000, 1240):
    linear(torch.randn(rows, 128, requires_grad=True), weight, bias).sum().backward()
    sizes.append(resident())
print(sizes[-1] - sizes[39])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50 << 20


@pytest.fixture(scope="module")
def small():
    model = Model(preset="small", hidden_size=64, num_heads=2, intermediate_size=128)
    return build_model(Experiment(model=model, train=Train(precision="bf16")))


def test_bf16_rounds_states_and_leaves_weights(small):
    """Weights and gradients are float32, states bfloat16; the result is rounded, no more."""
    ids = torch.randint(5, 4101, (60,), generator=torch.Generator().manual_seed(0))
    layout, at = SequenceLayout.of((40, 20)), torch.tensor([3, 5, 50])
    small.encoder.compute_dtype = None
    exact = small(ids, layout, at)
    exact.logsumexp(1).sum().backward()
    wanted = {name: p.grad.clone() for name, p in small.named_parameters()}
    small.zero_grad()
    small.encoder.compute_dtype = torch.bfloat16
    rounded = small(ids, layout, at)
    assert rounded.dtype == torch.bfloat16
    assert not torch.equal(rounded.float(), exact)
    assert torch.allclose(rounded.float(), exact, atol=0.02)
    rounded.float().logsumexp(1).sum().backward()
    for name, p in small.named_parameters():
        assert p.dtype == p.grad.dtype == torch.float32, name
        norm = wanted[name].norm()
        assert (p.grad - wanted[name]).norm() <= 0.05 * norm + 1e-4, name
