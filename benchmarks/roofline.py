"""What bounds a training step on a GPU? Counted without one: a model, not a measurement.

The step (forward and backward of full windows in bf16) is traced and lowered by torch.compile's
Inductor as for an sm_90, up to its scheduler, which decides what is one kernel; no kernel is
written, so no Triton is needed. The bytes of a kernel are those that it must read and write at
least, each buffer once. A time is the larger of bytes and FLOPs over the rates below.

Joint graphs are traced on tensors of the CPU that have no values, since torch's autograd asks a GPU
for its streams, with the choices of a GPU (attention for packed sequences, aligned logits); what is
lowered is on the GPU.
"""

import argparse
import copy
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import torch
from contestants import experiment_of
from torch._dynamo.device_interface import CudaInterface
from torch._inductor import compile_fx, ir, scheduler
from torch._inductor.debug import DebugContext
from torch._inductor.graph import GraphLowering
from torch._inductor.runtime.hints import DeviceProperties
from torch._inductor.virtualized import V
from torch.utils._python_dispatch import _disable_current_modes

import cmgems.models.attention
import cmgems.models.encoder
from cmgems.config.schema import Experiment
from cmgems.cost.flops import flops_per_token
from cmgems.cost.plan import estimate_windows, planned_encoder
from cmgems.curriculum.schedule import effective_span_width
from cmgems.masking.packing import PackedShape
from cmgems.models import fused_gelu
from cmgems.models.build import build_model
from cmgems.models.layouts import SequenceLayout
from cmgems.tokenization import build_tokenization
from cmgems.training.module import masked_lm_step, max_window_tokens
from cmgems.utils.files import atomic_write

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))
from helpers.fake_cuda import CUDA, MODE, unavailable  # noqa: E402

PEAK = 989e12  # FLOP/s of dense bf16 products of an H100 SXM and of an H200
BANDWIDTH = {"H100": 3.35e12, "H200": 4.8e12}  # bytes/s
OF_BANDWIDTH, OF_PRODUCTS, OF_ATTENTION = 0.85, 0.60, 0.35  # what kernels reach of these
SHORTEST = 2e-6  # seconds of a kernel, however little it does
LAUNCH = 6e-6  # seconds of the host per kernel, without CUDA graphs
OPTIMIZER_BYTES, OPTIMIZER_LAUNCHES = 40, 8  # per parameter; clipping and fused AdamW in float32
BACKWARD_LAUNCHES = 3  # of the attention for packed sequences
PRICE = {"H100": 3.0, "H200": 4.0}  # dollars per hour: round numbers, to be replaced by yours
RUN = 10_000 * 250  # windows of a run, as many as DNABERT's authors' steps of 250 have in 10,000
KINDS = ("elementwise", "product", "attention")
CASES = (("logo", 250), ("logo", 25), ("small", 250), ("dnabert", 64))
BEGIN, END = "<!-- roofline: make roofline -->\n", "<!-- end of roofline -->\n"
# A fused kernel counts to the first of these that it has a part of.
OPERATIONS = {
    "gelu_backward": "GELU backward",
    "gelu": "GELU",
    "native_layer_norm_backward": "LayerNorm backward",
    "native_layer_norm": "LayerNorm",
    "embedding_dense_backward": "embedding backward",
    "_log_softmax": "loss",
    "nll_loss": "loss",
    "prepare_softmax": "loss",
    "sum": "gradients of biases",
}
PROPERTIES = {
    "name": "NVIDIA H100",
    "gcnArchName": "",
    "major": 9,
    "minor": 0,
    "multi_processor_count": 132,
    "warp_size": 32,
    "regs_per_multiprocessor": 65536,
    "max_threads_per_multi_processor": 2048,
    "max_threads_per_block": 1024,
    "shared_memory_per_block_optin": 232448,
    "L2_cache_size": 50 << 20,
    "total_memory": 80 << 30,
}


class Kernel(NamedTuple):
    """One launch, or the few of an attention's backward pass."""

    kind: str  # elementwise, product or attention
    operation: str
    bytes: int
    flops: float = 0.0
    launches: int = 1


class Step(NamedTuple):
    tokens: int
    kernels: list[Kernel]
    parameters: int


def step_of(experiment: Experiment) -> Step:
    """The kernels of a step of full windows."""
    tokenization = build_tokenization(experiment.data)
    longest, windows = (
        max_window_tokens(experiment, tokenization),
        experiment.train.micro_batch_size,
    )
    width = effective_span_width(experiment.curriculum, experiment.masking, tokenization.windows)
    masked = estimate_windows(experiment).masked_fraction
    shape = PackedShape.of((longest,) * windows, longest, masked, width)
    kernels: list[Kernel] = []

    def compile_one(graph: torch.fx.GraphModule, inputs: Any, **options: Any) -> Callable[..., Any]:
        runs = torch.fx.Interpreter(copy.deepcopy(graph))
        mode = compile_fx.detect_fake_mode(inputs)  # not always the one around
        with _disable_current_modes(), mode:
            kernels.extend(_lowered(graph, inputs, options.get("is_backward", False), longest))
        return _boxed(runs)

    torch._dynamo.reset()
    with _as_on_a_gpu():
        model = build_model(experiment)
        model.encoder.compute_dtype = torch.bfloat16
        ids_T, at_M = (torch.zeros(n, dtype=torch.int64) for n in (shape.tokens, shape.masked))
        starts = torch.zeros(windows + 1, dtype=torch.int64)
        layout = SequenceLayout(ids_T.clone(), (), starts, longest)
        compiled = torch.compile(
            masked_lm_step,
            fullgraph=True,
            dynamic=False,
            backend=lambda graph, inputs: compile_fx.compile_fx(graph, inputs, compile_one),
        )
        compiled(model, ids_T, layout, at_M, at_M.clone()).loss_M.sum().backward()
    return Step(shape.tokens, kernels, sum(p.numel() for p in model.parameters()))


def _boxed(runs: torch.fx.Interpreter) -> Callable[..., Any]:
    def run(arguments: list[Any]) -> Any:
        return runs.boxed_run(arguments)

    run._boxed_call = True  # type: ignore[attr-defined]
    return run


@contextmanager
def _as_on_a_gpu() -> Iterator[None]:
    """What torch and the model ask a GPU before they choose."""
    properties = SimpleNamespace(**PROPERTIES)
    hints = DeviceProperties("cuda", 0, 132, 90, 9, 65536, 2048, 1024, 32)
    with ExitStack() as stack:
        for owner, name, value in (
            (DeviceProperties, "create", lambda device: hints),
            (CudaInterface, "get_device_properties", lambda *_: properties),
            (CudaInterface, "get_compute_capability", lambda *_: 90),
            (CudaInterface, "current_device", lambda *_: 0),
            (torch.cuda, "get_device_properties", lambda *_: properties),
            (torch.cuda, "get_device_capability", lambda *_: (9, 0)),
            (torch.cuda, "current_device", lambda: 0),
            (scheduler, "has_triton", lambda: True),
            (cmgems.models.attention, "_has_kernel", lambda q: True),
            (fused_gelu, "serves", lambda x: True),
            (cmgems.models.encoder, "logits", cmgems.models.encoder.aligned_linear),
        ):
            stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(MODE)
        yield


def _lowered(
    graph: torch.fx.GraphModule, inputs: Any, is_backward: bool, longest: int
) -> list[Kernel]:
    """The kernels of one graph: what Inductor does to it, up to the scheduler."""
    for node in graph.graph.nodes:
        if node.kwargs.get("device") is not None:
            node.kwargs = {**node.kwargs, "device": CUDA}
    inputs = [x.to(CUDA) if isinstance(x, torch.Tensor) else x for x in inputs]
    compile_fx.view_to_reshape(graph)
    with torch.no_grad():
        fake = compile_fx.fake_tensor_prop(graph, inputs, True)
    compile_fx._recursive_record_original_output_strides(graph)
    with V.set_fake_mode(fake):
        compile_fx._recursive_post_grad_passes(graph, is_inference=False)
        lowering = GraphLowering(graph, example_inputs=inputs, is_backward=is_backward, graph_id=0)
        lowering.freeze_runtime_asserts()
        with (
            V.set_graph_handler(lowering),
            V.set_extern_kernel_nodes([]),
            V.set_debug_handler(DebugContext()),
        ):
            lowering.run(*inputs)
            lowering.init_wrapper_code()
            lowering._update_scheduler()
            nodes = lowering.scheduler.nodes
            return [_kernel(node, longest) for node in nodes if _is_launched(node)]


def _is_launched(node: Any) -> bool:
    if isinstance(node, scheduler.NopKernelSchedulerNode):
        return False
    return not isinstance(node.node, ir.MultiOutput)


def _kernel(node: Any, longest: int) -> Kernel:
    moved, names = node.get_read_write_buffers_sizes(), _operations(node)
    if any("varlen_attn" in name for name in names) and isinstance(node.node, ir.FallbackKernel):
        backward = any("varlen_attn_backward" in name for name in names)
        queries, heads, features = (int(n) for n in node.node.inputs[0].get_size())
        flops = 4.0 * queries * heads * features * longest * (2.5 if backward else 1)
        return Kernel("attention", "", moved, flops, BACKWARD_LAUNCHES if backward else 1)
    if isinstance(node.node, ir.FallbackKernel) and node.node.op_overload.namespace == "cmgems":
        factor, weight = (math.prod(map(int, x.get_size())) for x in node.node.inputs[:2])
        width = int(node.node.inputs[0].get_size()[1])
        launches = 2 if "backward" in str(node.node.op_overload) else 1  # the sum over tiles
        return Kernel("product", "", moved, 2.0 * factor * weight / width, launches)
    if isinstance(node.node, ir.ExternKernelOut):
        (rows, inner), (_, columns) = (factor.get_size() for factor in node.node.inputs[-2:])
        return Kernel("product", "", moved, 2.0 * int(rows) * int(inner) * int(columns))
    own = (label for key, label in OPERATIONS.items() if any(f".{key}" in name for name in names))
    return Kernel("elementwise", next(own, "other"), moved)


def _operations(node: Any) -> set[str]:
    """Names of the operations, as they were before decompositions."""
    origins = [
        origin
        for part in node.get_nodes()
        if part.node is not None
        for origin in part.node.get_origins()
    ]
    return {str(origin.meta.get("original_aten", origin.target)) for origin in origins}


def seconds(step: Step, bandwidth: float) -> dict[str, float]:
    """Of the GPU by kind of kernel, and of the host that launches them."""
    times = dict.fromkeys(KINDS, 0.0)
    rates = {"elementwise": PEAK, "product": OF_PRODUCTS * PEAK, "attention": OF_ATTENTION * PEAK}
    for kernel in step.kernels:
        moving = kernel.bytes / (OF_BANDWIDTH * bandwidth)
        least = SHORTEST * kernel.launches
        times[kernel.kind] += max(least, moving, kernel.flops / rates[kernel.kind])
    times["optimizer"] = OPTIMIZER_BYTES * step.parameters / (OF_BANDWIDTH * bandwidth)
    times["optimizer"] = max(times["optimizer"], SHORTEST * OPTIMIZER_LAUNCHES)
    return times | {"host": LAUNCH * launches(step)}


def launches(step: Step) -> int:
    return sum(kernel.launches for kernel in step.kernels) + OPTIMIZER_LAUNCHES


def tokens_per_second(step: Step, bandwidth: float) -> float:
    """The host runs ahead of the GPU, or the GPU waits for it."""
    times = seconds(step, bandwidth)
    host = times.pop("host")
    return step.tokens / max(host, sum(times.values()))


def row_of(preset: str, step: Step) -> str:
    moved = Counter[str]()
    for kernel in step.kernels:
        if kernel.kind == "elementwise":
            moved[kernel.operation] += kernel.bytes
    flops = sum(kernel.flops for kernel in step.kernels if kernel.kind == "product")
    times = seconds(step, BANDWIDTH["H100"])
    most, most_bytes = moved.most_common(1)[0]
    cells = [
        preset,
        str(launches(step)),
        f"{moved.total() / step.tokens / 1e3:.1f} kB",
        f"{most} ({most_bytes / moved.total():.0%})",
        f"{flops / step.tokens / 1e6:.1f}",
        *(f"{1e3 * time:.2f}" for time in times.values()),
        *(f"{tokens_per_second(step, rate) / 1e6:.2f} M" for rate in BANDWIDTH.values()),
    ]
    return f"| {' | '.join(cells)} |\n"


def cost_row(preset: str, windows: int, step: Step, flops: float) -> str:
    """`flops` are those of a model's token, forward and backward, as `cmgems plan` counts them."""
    cells = [f"{preset}, {windows}", f"{RUN * step.tokens / windows / 1e9:.2f} G"]
    for name, bandwidth in BANDWIDTH.items():
        speed = tokens_per_second(step, bandwidth)
        hours = RUN * step.tokens / windows / speed / 3600
        cells += [f"{speed / 1e6:.2f} M", f"{speed * flops / PEAK:.0%}"]
        cells += [f"{hours:.3g}", f"{hours * PRICE[name]:.2g}"]
    return f"| {' | '.join(cells)} |\n"


def cost_table(rows: list[str]) -> str:
    heads = ["preset, windows", "tokens of the run"]
    for name in BANDWIDTH:
        heads += [f"{name}: {part}" for part in ("tokens/s", "MFU", "hours", "dollars")]
    return "".join([f"| {' | '.join(heads)} |\n", f"|{' --- |' * len(heads)}\n", *rows])


def cost_assumptions() -> str:
    prices = " and ".join(f"{price:g} dollars ({name})" for name, price in PRICE.items())
    return (
        f"What a run of {RUN:,} full windows then comes to on one GPU, *modelled* by the table "
        f"above and an hour at {prices}, which are round numbers and no offers. MFU is the part of "
        f"{PEAK / 1e12:g} TFLOP/s that the model's own products take.\n"
    )


def table(rows: list[str]) -> str:
    parts = ["elementwise", "products", "attention", "optimizer", "host"]
    heads = ["preset, windows", "launches", "elementwise traffic per token", "moves most"]
    heads += ["MFLOP of products per token", *(f"ms: {part}" for part in parts)]
    heads += [f"modelled tokens/s, {name}" for name in BANDWIDTH]
    lines = [f"| {' | '.join(heads)} |\n", f"|{' --- |' * len(heads)}\n", *rows]
    return "".join(lines)


def assumptions() -> str:
    rates = " and ".join(f"{rate / 1e12:g} TB/s ({name})" for name, rate in BANDWIDTH.items())
    return (
        "All figures of this table are *modelled*, none is measured. Assumed: full windows in "
        f"bf16; {rates}, of which kernels reach {OF_BANDWIDTH:.0%}; {PEAK / 1e12:g} TFLOP/s, of "
        f"which products reach {OF_PRODUCTS:.0%} and attention {OF_ATTENTION:.0%}; at least "
        f"{SHORTEST * 1e6:g} us per kernel, {LAUNCH * 1e6:g} us of the host per launch (no CUDA "
        f"graphs), which runs beside the GPU; clipping and AdamW move {OPTIMIZER_BYTES} bytes per "
        f"parameter in {OPTIMIZER_LAUNCHES} launches. Kernels are those of Inductor's scheduler in "
        f"torch {torch.__version__.split('+')[0]}; a kernel moves each buffer "
        "once. Left out: masks, packing and loading. The milliseconds are those of an H100.\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/scaling.md")
    why_not = unavailable()
    args = parser.parse_args()
    if why_not is not None:
        print(why_not)
        return 2
    rows, costs = [], []
    for preset, windows in CASES:
        experiment = experiment_of(preset, windows, 1.0, precision="bf16")
        step, expected = step_of(experiment), estimate_windows(experiment)
        flops = flops_per_token(
            planned_encoder(experiment), expected.mean_length_per_token, expected.masked_fraction
        )
        rows.append(row_of(f"{preset}, {windows}", step))
        costs.append(cost_row(preset, windows, step, flops))
        print(rows[-1], costs[-1], sep="", end="", flush=True)
    text = f"{assumptions()}\n{table(rows)}\n{cost_assumptions()}\n{cost_table(costs)}"
    print(f"\n{text}")
    if args.write:
        path = ROOT / "docs/scaling.md"
        before, rest = path.read_text().split(BEGIN)
        with atomic_write(path) as handle:
            handle.write(f"{before}{BEGIN}{text}{END}{rest.split(END)[1]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
