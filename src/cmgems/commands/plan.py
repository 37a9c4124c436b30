"""`cmgems plan`: what an experiment costs, before it runs."""

import argparse
from typing import TYPE_CHECKING

from cmgems.config.shipped import FILE_OR_NAME
from cmgems.runs.experiment import load
from cmgems.utils.text_table import text_table

if TYPE_CHECKING:
    from cmgems.cost.plan import Plan

DESCRIPTION = """\
Parameters, FLOPs per token, memory of a step against that of this device, expected tokens per
second and hours of an experiment, and which micro-batch fits. Nothing is trained or written.

The speed is the device's rate of matrix products, which is measured, times an assumed efficiency;
with --measure a few steps are timed instead. docs/scaling.md says what is counted.
"""
EXAMPLES = """\
examples:
  cmgems plan experiments/pretrain/cm_gems.yaml
  cmgems plan experiments/pretrain/cm_gems.yaml model.preset=dnabert --measure
  cmgems plan experiments/pretrain/cm_gems.yaml train.devices=8 train.global_batch_size=80
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES
    parser.add_argument("experiment", metavar="EXPERIMENT", help=FILE_OR_NAME)
    parser.add_argument("overrides", metavar="key.path=value", nargs="*")
    parser.add_argument("--measure", action="store_true", help="time a few steps on this device")


def run(args: argparse.Namespace) -> None:
    experiment = load(args.experiment, args.overrides)

    # Heavy imports are in here: `--help` and an error in the file must answer at once.
    from cmgems.cost.device import training_device
    from cmgems.cost.plan import plan

    print(report(plan(experiment, training_device(experiment.train), args.measure)))


def report(plan: "Plan") -> str:
    """The plan as text."""
    shape = plan.config
    head = (
        f"{plan.experiment.name}: {shape.num_layers} layers, hidden size {shape.hidden_size}, "
        f"{plan.parameters / 1e6:.2f} million parameters"
    )
    return "\n".join(
        [head, "", *_step_lines(plan), "", *_memory_lines(plan), "", *_speed_lines(plan)]
    )


def _step_lines(plan: "Plan") -> list[str]:
    train, windows = plan.experiment.train, plan.windows
    processes = train.devices * train.nodes
    accumulate = train.global_batch_size // (train.micro_batch_size * processes)
    return [
        f"  window           {windows.mean_length:,.0f} tokens on average, {windows.max_length:,} "
        f"at most; {windows.masked_fraction:.1%} of them predicted",
        f"  step             {train.global_batch_size} windows ({processes} processes x "
        f"{accumulate} micro-batches x {train.micro_batch_size}), "
        f"{windows.mean_length * train.global_batch_size:,.0f} tokens",
        f"  arithmetic       {plan.flops_per_token / 1e6:,.1f} MFLOP per token, "
        f"{plan.flops_per_token * plan.tokens / 1e15:,.2f} PFLOP in total",
    ]


def _memory_lines(plan: "Plan") -> list[str]:
    memory = plan.memory
    available = f"of {_size(plan.device_memory.total)} ({plan.device})"
    rows = [
        *zip(memory._fields, map(_size, memory), strict=True),
        ("total", _size(memory.total), available),
    ]
    return [
        "  memory of a step, per process",
        text_table(rows, "<><", indent="    "),
        f"    micro-batch     {_micro_batch(plan)}",
    ]


def _speed_lines(plan: "Plan") -> list[str]:
    speed = plan.speed
    efficiency = "timed" if speed.is_measured else "assumed"
    return [
        f"  matrix products  {speed.matmul_flops_per_second / 1e12:,.3f} TFLOP/s, measured; "
        f"training uses {speed.efficiency:.0%} of that ({efficiency})",
        f"  speed            {speed.tokens_per_second:,.0f} tokens per second and device",
        f"  run              {plan.tokens / 1e6:,.1f} million tokens, {_time(plan.seconds)}",
    ]


def _micro_batch(plan: "Plan") -> str:
    """Whether the micro-batch fits, and which one would."""
    train, fitting = plan.experiment.train, plan.max_micro_batch_size
    if fitting is None:
        return "not even 1 window fits; wanted a smaller model, data.window_length, or more memory"
    accumulate = train.global_batch_size // (fitting * train.devices * train.nodes)
    setting = f"train.micro_batch_size={fitting} ({accumulate} of them make a step)"
    if not plan.fits:
        return f"{train.micro_batch_size} does not fit; {setting} does"
    if fitting == train.micro_batch_size:
        return f"{fitting} fits, and no larger one that divides the batch does"
    return f"{train.micro_batch_size} fits; the largest that does is {setting}"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"


def _time(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.1f} minutes"
    return f"{seconds / 3600:,.1f} hours"
