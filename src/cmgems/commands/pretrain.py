"""`cmgems pretrain`: a run from an experiment file."""

import argparse

from cmgems.commands import describe_keys
from cmgems.config.schema import Experiment
from cmgems.config.shipped import FILE_OR_NAME
from cmgems.errors import RunFailed
from cmgems.runs.experiment import load

DESCRIPTION = """\
Pretrain a gene transformer by masked language modeling, as an experiment file says.
Overrides `key.path=value` win over the file.
"""
EXAMPLES = """\
examples:
  cmgems pretrain quickstart
  cmgems pretrain experiments/pretrain/cm_gems.yaml data.genome=chr20.fa run.dir=runs/chr20
  cmgems pretrain experiments/pretrain/cm_gems.yaml run.dir=runs/chr20 run.resume=true
  cmgems pretrain experiments/pretrain/random.yaml optim.learning_rate=2e-3 train.max_steps=1000

Ctrl-C saves the run and stops it, and so do SIGTERM, a closed terminal (SIGHUP) and SIGUSR1; the
same command with run.resume=true resumes it. With run.resume=auto one command begins a run and
goes on with it: for jobs that Slurm, torchrun --max-restarts or Kubernetes start again.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES + "\nkeys:\n" + describe_keys(Experiment)
    parser.add_argument("experiment", metavar="EXPERIMENT", help=FILE_OR_NAME)
    parser.add_argument("overrides", metavar="key.path=value", nargs="*")


def run(args: argparse.Namespace) -> None:
    experiment = load(args.experiment, args.overrides)

    # Heavy imports are in here: `--help` and an error in the file must answer at once.
    from cmgems.pretraining import pretrain

    try:
        pretrain(experiment)
    except (MemoryError, RuntimeError) as error:
        if args.traceback or not is_out_of_memory(error):
            raise
        raise RunFailed(f"out of memory: {advise(experiment)}") from None


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device had no memory left; torch has no error class for the memory of a CPU."""
    import torch

    cpu = "DefaultCPUAllocator" in str(error) or "not enough memory" in str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or cpu


def advise(experiment: Experiment) -> str:
    from cmgems.cost.device import training_device
    from cmgems.cost.plan import memory_advice

    return memory_advice(experiment, training_device(experiment.train))
