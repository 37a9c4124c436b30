"""`cmgems compare`: finished runs against each other."""

import argparse
from pathlib import Path

from cmgems.commands import split_options
from cmgems.errors import UserError
from cmgems.utils.outputs import check_output_folder

DESCRIPTION = """\
Compare finished runs, or all runs of a sweep, with one of them: final values over seeds, paired
differences with intervals over seeds and windows and p corrected for all of them, the steps at
which a run is as good as the baseline at its end, learning curves, the keys that differ, and a
verdict, which says where it depends on the judge. Prints tables; writes compare.html (one page, no
network), compare.md with curves.png, and runs.csv.

Runs that differ in their seed alone are one experiment. The folder of an evaluation of the runs
(cmgems evaluate) adds its scores as metrics, and those of its baselines.
"""
EXAMPLES = """\
examples:
  cmgems compare runs/maskings
  cmgems compare runs/maskings baseline=random_wide out=report
  cmgems compare runs/random runs/cm_gems
  cmgems compare runs/maskings evaluations/few_shot
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES
    parser.add_argument(
        "arguments",
        metavar="RUN | SWEEP | EVALUATION | baseline=NAME | out=FOLDER",
        nargs="+",
        help="folders, the experiment to compare with (default: constant `random` masks), and "
        "where to write (default: `comparison` in a single sweep, else runs/comparison)",
    )


def run(args: argparse.Namespace) -> None:
    options, folders = split_options(args.arguments, "baseline", "out")
    paths = [Path(folder) for folder in folders]
    if not paths:
        raise UserError("found no run, wanted a run folder or a sweep folder")

    # Heavy imports are in here: `--help` must answer at once.
    from cmgems.comparison.compare import compare
    from cmgems.comparison.records import read_runs
    from cmgems.comparison.write import as_terminal_text, write_comparison

    runs = read_runs(paths)
    default = paths[0] / "comparison" if len(paths) == 1 else Path("runs/comparison")
    out = Path(options["out"]) if options["out"] else default
    check_output_folder(out, "out")
    comparison = compare(runs, options["baseline"])
    title = paths[0].resolve().name if len(paths) == 1 else out.name
    print(as_terminal_text(comparison))
    print()
    for path in write_comparison(comparison, out, title):
        print(path)
