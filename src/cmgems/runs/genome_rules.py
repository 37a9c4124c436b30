"""Rules between the keys that name genomes."""

from collections.abc import Iterator
from dataclasses import fields

from cmgems.config.genomes import GenomeSource
from cmgems.config.schema import Data, Experiment

_OF_A_GENOME = [part.name for part in fields(GenomeSource) if part.name not in ("path", "weight")]


def genome_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """(key, message) of each rule that `data.genome` and `data.genomes` break."""
    data = experiment.data
    if not data.genomes:
        if not data.genome:
            yield "data.genome", "data.genome: found none, wanted a genome, or data.genomes"
        return
    if data.genome not in ("", Data().genome):
        yield (
            "data.genomes",
            f"data.genomes: found beside data.genome {data.genome}, wanted one of the two",
        )
    paths = [source.path for source in data.genomes]
    if len(paths) == 1:
        yield "data.genomes", "data.genomes: found one genome, wanted two or more, or data.genome"
    if "" in paths:
        yield "data.genomes", "data.genomes: found an entry without path, wanted a genome in each"
    for path in sorted({path for path in paths if paths.count(path) > 1}):
        yield "data.genomes", f"data.genomes: {path} is listed twice, wanted one weight for it"
    for name in _OF_A_GENOME:
        if getattr(data, name):
            yield (
                f"data.{name}",
                f"data.{name}: found beside data.genomes, wanted {name} in the entry of its genome",
            )
