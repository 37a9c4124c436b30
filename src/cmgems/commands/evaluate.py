"""`cmgems evaluate`: what a pretrained model is worth on labelled tasks."""

import argparse

from cmgems.commands import describe_keys

DESCRIPTION = """\
Score pretrained models on labelled tasks, beside baselines, as an experiment file says: few-shot,
full fine-tuning, a probe of frozen states, or zero-shot. Overrides `key.path=value` win over the
file. What is done in run.dir is not done again: after Ctrl-C, the same command goes on.
"""
EXAMPLES = """\
examples:
  cmgems evaluate experiments/finetune/quickstart.yaml
  cmgems evaluate experiments/finetune/few_shot.yaml models=runs/quickstart tasks.root=data
  cmgems evaluate experiments/finetune/probe.yaml models=[runs/a,runs/b] tasks.root=data
  cmgems evaluate experiments/finetune/gue.yaml models=runs/a tasks.root=data check_leakage=true
"""


def configure(parser: argparse.ArgumentParser) -> None:
    from cmgems.evaluation.config import Evaluation

    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES + "\nkeys:\n" + describe_keys(Evaluation)
    parser.add_argument("experiment", metavar="EXPERIMENT.yaml")
    parser.add_argument("overrides", metavar="key.path=value", nargs="*")


def run(args: argparse.Namespace) -> None:
    from cmgems.evaluation.config import load_evaluation

    evaluation = load_evaluation(args.experiment, args.overrides)

    from cmgems.evaluation.run import evaluate  # seconds

    evaluate(evaluation)
