"""`cmgems pretrain`: a run from an experiment file."""

import argparse
import textwrap

from cmgems.errors import RunFailed

DESCRIPTION = """\
Pretrain a gene transformer with masked language modelling, as an experiment file says.
Overrides `key.path=value` win over the file.
"""
EXAMPLES = """\
examples:
  cmgems pretrain experiments/pretrain/quickstart.yaml
  cmgems pretrain experiments/pretrain/cm_gems.yaml data.genome=chr20.fa run.dir=runs/chr20
  cmgems pretrain experiments/pretrain/cm_gems.yaml run.dir=runs/chr20 run.resume=true
  cmgems pretrain experiments/pretrain/random.yaml optim.rate=2e-3 train.max_steps=1000

Ctrl-C saves the run and stops it; the same command with run.resume=true goes on.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES + "\nkeys:\n" + describe_keys()
    parser.add_argument("experiment", metavar="EXPERIMENT.yaml")
    parser.add_argument("overrides", metavar="key.path=value", nargs="*")


def run(args: argparse.Namespace) -> None:
    from cmgems.experiment import load

    experiment = load(args.experiment, args.overrides)

    from cmgems.train import pretrain  # seconds, so not before the experiment is known to be good

    try:
        pretrain(experiment)
    except (MemoryError, RuntimeError) as error:
        if args.traceback or not out_of_memory(error):
            raise
        raise RunFailed(f"out of memory: {advice(experiment)}") from None


def out_of_memory(error: Exception) -> bool:
    """Whether a device had no memory left; torch has no class of its own for a CPU's."""
    import torch

    cpu = "DefaultCPUAllocator" in str(error) or "not enough memory" in str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or cpu


def advice(experiment) -> str:
    from cmgems.device import device_of
    from cmgems.plan import memory_advice
    from cmgems.train import choose_accelerator

    return memory_advice(experiment, device_of(choose_accelerator(experiment)))


def describe_keys(schema: type | None = None) -> str:
    """All config keys with their defaults and meaning, from the dataclasses themselves."""
    from cmgems.config import Experiment, leaves, read

    defaults = (schema or Experiment)()
    lines = []
    for name, part in leaves(schema):
        value = read(defaults, name)
        shown = (
            "[" + ", ".join(map(_shown, value)) + "]"
            if isinstance(value, tuple)
            else str(value) or "''"
        )
        text = part.metadata["text"]
        if part.metadata["choices"]:
            text += f" ({' | '.join(map(str, part.metadata['choices']))})"
        head = f"  {name} = {shown}"
        lines += [head, *textwrap.wrap(text, 84, initial_indent=" " * 8, subsequent_indent=" " * 8)]
    return "\n".join(lines)


def _shown(entry: str | float) -> str:
    return entry if isinstance(entry, str) else f"{entry:g}"
