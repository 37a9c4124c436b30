"""`cmgems inspect`: what the masks of an experiment do, as an HTML page."""

import argparse

from cmgems.commands import own_words

DESCRIPTION = """\
Mask real sequence as an experiment does, at several steps of its curriculum and with every
strategy of the catalogue, and write one HTML page that shows what is masked and what is hidden.
Nothing is trained. Overrides `key.path=value` win over the file.
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
    parser.add_argument("experiment", metavar="EXPERIMENT.yaml")
    parser.add_argument(
        "overrides",
        metavar="region=CONTIG:START-END | out=FILE.html | key.path=value",
        nargs="*",
    )


def run(args: argparse.Namespace) -> None:
    from pathlib import Path

    from cmgems.errors import UserError
    from cmgems.runs.experiment import load

    own, overrides = own_words(args.overrides, "region", "out")
    experiment = load(args.experiment, overrides)
    out = Path(own["out"] or f"{experiment.name}.html")
    if not out.parent.is_dir() or out.is_dir():
        raise UserError(f"out: found {out}, wanted a file in a folder that exists")
    write_page(experiment, own["region"], out)
    print(f"{out}: open it in a browser")


def write_page(experiment, region: str, out) -> None:
    from cmgems.data_modules.pretraining import GenomeDataModule
    from cmgems.genome.cache import load_genome
    from cmgems.inspection.inspect import find_region, inspect
    from cmgems.inspection.page import page
    from cmgems.pretraining import build_masker, load_difficulty
    from cmgems.utils.files import atomic_write

    genome = load_genome(experiment.data.genome)
    found_region = find_region(genome, region, experiment.data.k)
    data = GenomeDataModule(experiment, genome)
    masker = build_masker(experiment, data, load_difficulty(experiment, genome))
    text = page(inspect(experiment, genome, masker, found_region))
    with atomic_write(out) as handle:
        handle.write(text)
