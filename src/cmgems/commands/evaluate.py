"""`cmgems evaluate`: pretrained models scored on labelled tasks."""

import argparse

from cmgems.commands import describe_keys
from cmgems.config.shipped import FILE_OR_NAME
from cmgems.evaluation.config import Evaluation, load_evaluation

DESCRIPTION = """\
Score pretrained models, and baselines, on labelled tasks as an experiment file says: few-shot, full
fine-tuning, a probe of frozen hidden states, or zero-shot. Overrides `key.path=value` win over the
file. What is finished in run.dir is not repeated: after Ctrl-C, the same command resumes.
"""
EXAMPLES = """\
examples:
  cmgems evaluate quickstart
  cmgems evaluate experiments/finetune/few_shot.yaml models=runs/quickstart tasks.root=data
  cmgems evaluate experiments/finetune/probe.yaml models=[runs/a,runs/b] tasks.root=data
  cmgems evaluate experiments/finetune/gue.yaml models=runs/a tasks.root=data check_leakage=true
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES + "\nkeys:\n" + describe_keys(Evaluation)
    parser.add_argument("experiment", metavar="EXPERIMENT", help=FILE_OR_NAME)
    parser.add_argument("overrides", metavar="key.path=value", nargs="*")


def run(args: argparse.Namespace) -> None:
    evaluation = load_evaluation(args.experiment, args.overrides)

    # Heavy imports are in here: `--help` and an error in the file must answer at once.
    from cmgems.evaluation.run import evaluate

    evaluate(evaluation)
