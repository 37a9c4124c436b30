"""The commands that take a model, as the tests of several tokenizations call them."""

import json

import numpy as np
from helpers.paths import EXPERIMENTS

from cmgems.cli import main


def score_variant(run, genome, place, folder, *settings):
    """The score of an exchange of one base of the sample, as `cmgems score` writes it."""
    contig = genome.contigs[0]
    ref = "ATCG"[genome.codes[contig.start + place]]
    alt = "A" if ref != "A" else "C"
    table, out = folder / "variants.tsv", folder / "scores.tsv"
    table.write_text(f"chrom\tpos\tref\talt\n{contig.name}\t{place + 1}\t{ref}\t{alt}\n")
    where = ["--variants", str(table), "--genome", "sample", "--out", str(out)]
    assert main(["score", str(run), *where, *settings]) == 0
    return float(out.read_text().splitlines()[1].split("\t")[5])


def evaluate_on_random_dna(run, protocol, folder, letters):
    """The results of `cmgems evaluate` on a task of random sequences of these letters."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 20)):
        texts = ["".join(generator.choice(list(letters), 40)) for _ in range(count)]
        lines = [f"{text}\t{number % 2}" for number, text in enumerate(texts)]
        (folder / f"{split}.tsv").write_text("\n".join(["sequence\tlabel", *lines]) + "\n")
    task = folder / "mine.yaml"
    task.write_text('classes: ["0", "1"]\nformat: table\ntrain: train.tsv\ntest: test.tsv\n')
    settings = [f"models={run}", f"protocol={protocol}", f"tasks.names=[{task}]"]
    settings += ["few_shot.shots=10", "few_shot.replicates=1", "recipe.max_steps=2"]
    settings += ["check_leakage=false", "classifier.strands=forward"]
    settings += ["baselines=[untrained,kmers]", "compute.workers=1", f"run.dir={folder / 'out'}"]
    assert main(["evaluate", str(EXPERIMENTS / "finetune/quickstart.yaml"), *settings]) == 0
    return json.loads((folder / "out/results.json").read_text())
