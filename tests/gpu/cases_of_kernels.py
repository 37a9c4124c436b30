"""The Triton kernels without a GPU: computed by Triton's interpreter, and compiled for GPUs.

`make test-gpu-path` gets Triton for it, which torch for CPUs does not bring, and runs
`test_without_a_gpu.py`, which runs this in processes of its own: a kernel is either interpreted
(TRITON_INTERPRET=1) or compiled.
"""

import os

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("triton", reason="no Triton: make test-gpu-path gets it")
from cmgems.models import gelu_kernels

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
SHARED_BYTES = 101_376  # that a program may have: the least of GPUs from Ampere on (RTX 3090, 4090)
# The interpreter's products of bfloat16 are wrong (Triton 3.9).
DTYPES = {torch.float32: 1e-5, torch.float16: 1e-2}


@pytest.mark.skipif(not INTERPRETED, reason="compiled here")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "width", "inner"), [(130, 70, 257), (256, 64, 128), (3, 8, 8)])
@pytest.mark.parametrize("biases", [True, False])
def test_kernels_compute_the_formula(dtype, rows, width, inner, biases):
    """Tiles that are full and others, against float64."""
    torch.manual_seed(0)
    numbers = torch.randn(rows + inner + 1, width).to(dtype)
    x, weight = numbers[:rows], numbers[rows : rows + inner] / width**0.5
    bias = torch.randn(inner).to(dtype) if biases else None
    before, after = gelu_kernels.up_gelu(x, weight, bias)
    wanted = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    assert torch.allclose(before.double(), wanted, atol=DTYPES[dtype])
    assert torch.allclose(after.double(), F.gelu(wanted), atol=DTYPES[dtype])

    down = weight.t().contiguous()
    found, sums = gelu_kernels.down_gelu_backward(x, down, before)
    product = x.double() @ down.double()
    slope = torch.ops.aten.gelu_backward(product, before.double())
    assert torch.allclose(found.double(), slope, atol=DTYPES[dtype])
    assert sums.dtype == torch.float32
    assert torch.allclose(sums.double(), slope.sum(0), atol=rows**0.5 * 1e-5)


@pytest.mark.skipif(INTERPRETED, reason="interpreted here")
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("kernel", ["_up_gelu", "_down_gelu_backward"])
@pytest.mark.parametrize("architecture", [80, 86, 89, 90, 100, 120])
def test_kernels_compile_for_a_gpu(kernel, architecture):
    """To machine code, for A100, RTX 3090, RTX 4090, H100, B200 and RTX 5090."""
    from triton import compile as compile_for
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = getattr(gelu_kernels, kernel)
    constants = {"ROWS": 128, "COLUMNS": 128, "DEPTH": 64, "HAS_BIAS": True}
    assert constants["ROWS"] == gelu_kernels.ROWS
    integers = dict.fromkeys(("rows_T", "columns_F", "width_D"), "i32")
    names = function.arg_names
    types = {name: "constexpr" if name in constants else "*bf16" for name in names}
    types |= {name: kind for name, kind in integers.items() if name in names}
    types |= {name: "*fp32" for name in names if name == "sums_PF"}
    aligned = {
        (at,): [["tt.divisibility", 16]]
        for at, name in enumerate(names)
        if name not in constants and name != "rows_T"
    }
    source = ASTSource(
        function, types, {name: constants[name] for name in names if name in constants}, aligned
    )
    options = {"num_warps": gelu_kernels.WARPS, "num_stages": gelu_kernels.STAGES}
    compiled = compile_for(source, target=GPUTarget("cuda", architecture, 32), options=options)
    assert compiled.metadata.shared <= SHARED_BYTES
    code = compiled.asm["ptx"]
    assert {80: "mma.sync", 90: "wgmma", 100: "tcgen05"}.get(architecture, "mma") in code
    assert compiled.asm["cubin"].startswith(b"\x7fELF")
