"""`cmgems compare`: what finished runs say about each other."""

import argparse

from cmgems.commands import own_words

DESCRIPTION = """\
Compare finished runs, or all runs of a sweep, with one of them: final figures over seeds, paired
differences with intervals and corrected p values, the steps at which a run is as good as the
baseline at its end, learning curves, the keys that differ, and a verdict in words. Prints tables;
writes compare.html (one page, no network), compare.md with curves.png, and runs.csv.

Runs that differ in their seed alone are one experiment. The folder of an evaluation of the runs
(cmgems evaluate) adds its scores as measures, and its baselines beside them.
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
        "words", metavar="RUN | SWEEP | EVALUATION | baseline=NAME | out=FOLDER", nargs="+"
    )


def run(args: argparse.Namespace) -> None:
    from pathlib import Path

    from cmgems.errors import UserError

    own, others = own_words(args.words, "baseline", "out")
    paths = [Path(word) for word in others]
    if not paths:
        raise UserError("found no run, wanted a run folder or a sweep folder")

    from cmgems.comparison.compare import compare
    from cmgems.comparison.records import read_runs
    from cmgems.comparison.write import as_terminal_text, write_comparison

    comparison = compare(read_runs(paths), own["baseline"])
    out = Path(own["out"] or (paths[0] / "comparison" if len(paths) == 1 else "runs/comparison"))
    title = paths[0].resolve().name if len(paths) == 1 else out.name
    print(as_terminal_text(comparison))
    print()
    for path in write_comparison(comparison, out, title):
        print(path)
