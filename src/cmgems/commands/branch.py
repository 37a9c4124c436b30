"""`cmgems branch`: runs that go on from checkpoints of others, with the learning rate to 0."""

import argparse
from pathlib import Path

from cmgems.commands import split_options
from cmgems.errors import UserError
from cmgems.sweeps.branches import BranchPoint, kept_steps, plan_branch
from cmgems.sweeps.config import Sweep, SweepFile
from cmgems.sweeps.plan import PlannedRun

DESCRIPTION = """\
Go on from a checkpoint of a run, in a new run folder, while the learning rate falls to 0: an
honest end point at a smaller budget. The windows are those that the run would have drawn next. With
`masks` all branches train on the same masks from there on, whatever their parents had, so that no
run is judged by masks that it alone has seen. Of a run with optim.schedule=wsd the rate is constant
until then; checkpoints are kept by train.keep_checkpoints_at. Several runs and steps make several
branches; finished ones are not run again, stopped ones are resumed.
"""
EXAMPLES = """\
examples:
  cmgems branch runs/random step=250
  cmgems branch runs/random step=kept masks=random_wide dir=runs/branches jobs=2
  cmgems branch runs/maskings/*-seed? step=2000 decay=300 optim.learning_rate=1e-3 dir=runs/common

A run that can be branched from, and what is made of branches:
  cmgems pretrain experiments/pretrain/random.yaml optim.schedule=wsd \\
      train.keep_checkpoints_at=[0.25,0.5,1]
  cmgems compare runs/common
"""
KEPT = "kept"
MAX_DIGITS = 9
OPTIONS = ("step", "decay", "masks", "dir", "jobs", "retry")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES
    parser.add_argument(
        "arguments",
        metavar="RUN | step=N | decay=D | masks=STRATEGY | dir=FOLDER | jobs=N | key.path=value",
        nargs="+",
        help="runs; steps of their checkpoints, one, [several], or all that are `kept`; steps of "
        "the decay (default: a fifth of the branch's budget); the strategy that masks from then "
        "on, 15 %% of the tokens (default: the run's own masks); the folder of the branches "
        "(default: runs/branches); how many at once; retry=true tries failed ones again; overrides "
        "of the runs' keys",
    )


def run(args: argparse.Namespace) -> None:
    options, others = split_options(args.arguments, *OPTIONS)
    parents = [Path(word) for word in others if "=" not in word]
    overrides = [word for word in others if "=" in word]
    if not parents or not options["step"]:
        raise UserError("found no run or no step, wanted RUN step=N")
    folder = Path(options["dir"] or "runs/branches")
    decay = _whole_numbers("decay", options["decay"] or "0")[0]
    jobs = _whole_numbers("jobs", options["jobs"] or "1")[0]
    steps = None if options["step"] == KEPT else _whole_numbers("step", options["step"])
    points = [
        (parent, BranchPoint(step, decay, options["masks"]))
        for parent in parents
        for step in (kept_steps(parent) if steps is None else steps)
    ]
    planned = _plan(points, folder, overrides)

    # Heavy imports are in here: `--help` must answer at once.
    from cmgems.sweeps.run import run_branches

    sweep = Sweep("branches", dir=str(folder), jobs=max(jobs, 1), retry=options["retry"] == "true")
    run_branches(SweepFile(folder, sweep, overrides), planned)


def _plan(
    points: list[tuple[Path, BranchPoint]], folder: Path, overrides: list[str]
) -> list[PlannedRun]:
    planned: list[PlannedRun] = []
    problems: list[str] = []
    for parent, point in points:
        try:
            planned.append(plan_branch(parent, point, folder, overrides))
        except UserError as error:
            problems += [line for line in str(error).splitlines() if line not in problems]
    names = [run.name for run in planned]
    problems += [
        f"{name}: two branches would have this name, wanted one; give them different dir=FOLDER"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    if problems:
        raise UserError("\n".join(problems))
    return planned


def _whole_numbers(name: str, text: str) -> list[int]:
    words = [word.strip() for word in text.strip("[]").split(",")]
    if not all(word.isdecimal() and len(word) <= MAX_DIGITS for word in words):
        raise UserError(f"{name}: found {text!r}, wanted a whole number below 10^{MAX_DIGITS}")
    return [int(word) for word in words]
