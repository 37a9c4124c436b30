"""`cmgems plan`: what an experiment costs, before it runs."""

import argparse

from cmgems.utils.text_table import text_table

DESCRIPTION = """\
Parameters, FLOPs a token, memory of a step against this device, expected tokens a second and hours
of an experiment, and which micro-batch fits. Nothing is trained or written.

The speed is the device's rate of matrix products, measured, times an assumed efficiency; with
--measure a few bare steps are timed instead. docs/scaling.md says what is counted.
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
    parser.add_argument("experiment", metavar="EXPERIMENT.yaml")
    parser.add_argument("overrides", metavar="key.path=value", nargs="*")
    parser.add_argument("--measure", action="store_true", help="time a few steps on this device")


def run(args: argparse.Namespace) -> None:
    from cmgems.runs.experiment import load

    experiment = load(args.experiment, args.overrides)

    from cmgems.cost.device import training_device
    from cmgems.cost.plan import plan

    print(report(plan(experiment, training_device(experiment.train), args.measure)))


def report(plan) -> str:
    """What a person reads."""
    experiment, shape, windows, train = (
        plan.experiment,
        plan.config,
        plan.windows,
        plan.experiment.train,
    )
    processes = train.devices * train.nodes
    accumulate = train.global_batch_size // (train.micro_batch_size * processes)
    memory, speed = plan.memory, plan.speed
    how = "timed" if speed.is_measured else "assumed"
    of = _size(plan.device_memory.total)
    lines = [
        f"{experiment.name}: {shape.num_layers} layers of width {shape.hidden_size}, "
        f"{plan.parameters / 1e6:.2f} million parameters",
        "",
        f"  a window         {windows.mean_length:,.0f} tokens on average, {windows.max_length:,} "
        f"at most; {windows.masked_fraction:.1%} of them predicted",
        f"  a step           {train.global_batch_size} windows ({processes} processes x "
        f"{accumulate} "
        f"micro-batches x {train.micro_batch_size}), "
        f"{windows.mean_length * train.global_batch_size:,.0f} tokens",
        f"  arithmetic       {plan.flops_per_token / 1e6:,.1f} MFLOP a token, "
        f"{plan.flops_per_token * plan.tokens / 1e15:,.2f} PFLOP in all",
        "",
        "  memory of a step, for one process",
        text_table(
            [
                *zip(memory._fields, map(_size, memory), strict=True),
                ("together", _size(memory.total), f"of {of} ({plan.device})"),
            ],
            "<><",
            indent="    ",
        ),
        f"    micro-batch     {_micro_batch(plan)}",
        "",
        f"  matrix products  {speed.matmul_flops_per_second / 1e12:,.3f} TFLOP/s, measured; "
        f"training uses {speed.efficiency:.0%} of that ({how})",
        f"  speed            {speed.tokens_per_second:,.0f} tokens a second and device",
        f"  the run          {plan.tokens / 1e6:,.1f} million tokens, {_time(plan.seconds)}",
    ]
    return "\n".join(lines)


def _micro_batch(plan) -> str:
    train, size = plan.experiment.train, plan.max_micro_batch_size
    if size is None:
        return "not even 1 window fits; wanted a smaller model, data.window_length, or more memory"
    accumulate = train.global_batch_size // (size * train.devices * train.nodes)
    setting = f"train.micro_batch_size={size} ({accumulate} of them make a step)"
    if not plan.fits:
        return f"{train.micro_batch_size} does not fit; {setting} does"
    if size == train.micro_batch_size:
        return f"{size} fits, and no larger one that divides the batch does"
    return f"{train.micro_batch_size} fits; the largest that does is {setting}"


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _time(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.1f} minutes"
    return f"{seconds / 3600:,.1f} hours"
