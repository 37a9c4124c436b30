"""`cmgems inspect`: the masks of an experiment on real sequence, as an HTML page."""

import argparse
from pathlib import Path

from cmgems.commands import split_options
from cmgems.config.schema import Experiment
from cmgems.config.shipped import FILE_OR_NAME
from cmgems.runs.experiment import load
from cmgems.utils.files import atomic_write
from cmgems.utils.outputs import check_output_file

DESCRIPTION = """\
Mask real sequence as an experiment does, at several steps of its curriculum and with every
registered strategy, and write one HTML page that shows which tokens are masked and which bases are
hidden. Nothing is trained. Overrides `key.path=value` win over the file.
"""
EXAMPLES = """\
examples:
  cmgems inspect experiments/pretrain/cm_gems.yaml
  cmgems inspect experiments/pretrain/cm_step.yaml region=chr20:45,000,000-45,010,000
  cmgems inspect experiments/pretrain/cm_gems.yaml data.genome=chr21.fa out=chr21.html
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES
    parser.add_argument("experiment", metavar="EXPERIMENT", help=FILE_OR_NAME)
    parser.add_argument(
        "overrides",
        metavar="region=CONTIG:START-END | out=FILE.html | key.path=value",
        nargs="*",
    )


def run(args: argparse.Namespace) -> None:
    options, overrides = split_options(args.overrides, "region", "out")
    experiment = load(args.experiment, overrides)
    out = Path(options["out"] or f"{experiment.name}.html")
    check_output_file(out, "out")
    write_page(experiment, options["region"], out)
    print(f"{out}: open it in a browser")


def write_page(experiment: Experiment, region_text: str, out: Path) -> None:
    # Heavy imports are in here: `--help` and an error in the file must answer at once.
    from cmgems.data_modules.pretraining import GenomeDataModule
    from cmgems.genome.joined import load_pretraining_genome
    from cmgems.inspection.inspect import find_region, inspect
    from cmgems.inspection.page import page
    from cmgems.masking.strategies import STRATEGIES
    from cmgems.tokenization import build_tokenization
    from cmgems.training.masks import build_masker, load_difficulty

    genome = load_pretraining_genome(experiment.data)
    region = find_region(genome, region_text, build_tokenization(experiment.data))
    data = GenomeDataModule(experiment, genome)
    table = load_difficulty(experiment, genome)
    masker = build_masker(experiment, data, table, more_strategies=STRATEGIES)
    text = page(inspect(experiment, genome, masker, region))
    with atomic_write(out) as handle:
        handle.write(text)
