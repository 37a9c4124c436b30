"""`cmgems sweep`: the runs of a sweep file."""

import argparse

from cmgems.commands import describe_keys
from cmgems.config.shipped import FILE_OR_NAME
from cmgems.sweeps.config import Sweep, read_sweep

DESCRIPTION = """\
Run what a sweep file describes: a base experiment and what varies, or a search. All runs are
checked before the first one starts. Finished runs are not run again, stopped ones are resumed,
failed ones are listed and tried again with retry=true. Overrides of config keys go to every run,
all others to the sweep.
"""
EXAMPLES = """\
examples:
  cmgems sweep maskings
  cmgems sweep experiments/sweep/maskings.yaml jobs=2 data.genome=chr20.fa dir=runs/chr20
  cmgems sweep experiments/sweep/maskings.yaml axes.seed=[0,1,2] only='cm_*' train.max_steps=200
  cmgems sweep experiments/sweep/rate_search.yaml search.trials=30
  cmgems sweep experiments/sweep/maskings.yaml executor=slurm slurm.gpus=1 slurm.partition=gpu

Ctrl-C saves and stops all runs; the same command resumes them.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES + "\nkeys of a sweep:\n" + describe_keys(Sweep)
    parser.add_argument("sweep", metavar="SWEEP", help=FILE_OR_NAME)
    parser.add_argument("overrides", metavar="key=value", nargs="*")


def run(args: argparse.Namespace) -> None:
    sweep_file = read_sweep(args.sweep, args.overrides)

    # Heavy imports are in here: `--help` and an error in the file must answer at once.
    from cmgems.sweeps.run import run_sweep

    run_sweep(sweep_file)
