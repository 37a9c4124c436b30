"""The entries of `data.genomes`: several genomes to pretrain on, each with a weight."""

from dataclasses import dataclass

from cmgems.config.options import option


@dataclass(frozen=True)
class GenomeSource:
    """One of several genomes; what is held out of it is said here, not in `data`."""

    path: str = option("", "genome, as data.genome takes it")
    weight: float = option(
        1.0, "its share of the windows is this over the sum of all weights", low=1e-6, high=1e6
    )
    regions: tuple[str, ...] = option(None, "as data.regions, of this genome", factory=tuple)
    exclude: tuple[str, ...] = option(None, "as data.exclude, of this genome", factory=tuple)
    validation_contigs: tuple[str, ...] = option(
        None, "as data.validation_contigs, of this genome", factory=tuple
    )
    test_contigs: tuple[str, ...] = option(
        None, "as data.test_contigs, of this genome", factory=tuple
    )

    def __str__(self) -> str:
        """As it is listed among hyper-parameters."""
        return f"{self.path}:{self.weight:g}"
