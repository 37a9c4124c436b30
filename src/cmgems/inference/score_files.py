"""`cmgems score`: files of sequences or variants -> tables of scores."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.annotation.variants import read_variants
from cmgems.genome.cache import load_genome
from cmgems.genome.names import plain_name
from cmgems.hub.pretrained import Pretrained
from cmgems.inference.embed_file import read_tokenizable_sequences
from cmgems.inference.likelihood import length_problem, pseudo_log_likelihood
from cmgems.inference.variant_labels import describe_metrics
from cmgems.inference.variants import ScoreOptions, VariantScore, score_variants
from cmgems.utils.escapes import table_field
from cmgems.utils.files import atomic_write
from cmgems.utils.progress import progress_bar


def sequence_lines(model: Pretrained, path: Path) -> Iterator[str]:
    """A header, then a line for each sequence."""
    yield "name\tbases\tscored\tlog_likelihood\tper_base"
    positions = model.model.encoder.config.max_position_embeddings
    for name, codes in read_tokenizable_sequences(path, model.tokenization):
        problem = length_problem(model.tokenization, codes, positions)
        if problem:
            raise UserError(f"{path}: {name} {problem}")
        likelihood = pseudo_log_likelihood(model.model, model.tokenization, codes)
        mean = f"{likelihood.mean:.6f}" if likelihood.bases else ""
        yield f"{name}\t{len(codes)}\t{likelihood.bases}\t{likelihood.total:.6f}\t{mean}"


class VariantTable:
    """The table of a file of variants, and what is to be said of it at the end.

    Parameters
    ----------
    model : the pretrained model that scores
    path : VCF, BCF or table
    genome : a store, a sequence file or `sample`
    labels : see `cmgems.genome.annotation.variants.read_variants`
    """

    def __init__(
        self, model: Pretrained, path: Path, genome: str, options: ScoreOptions, labels: str = ""
    ) -> None:
        self._model, self._path, self._genome = model, path, load_genome(genome)
        self._options, self._labels = options, labels
        self.scored = 0
        self.listed: Counter[str] = Counter()  # alternatives without a score, by the reason
        self._labelled: list[tuple[float, bool, str]] = []  # score, label, chromosome

    def lines(self) -> Iterator[str]:
        """A header, then a line for each alternative; `score` is empty where `why` says why."""
        label = ("label",) if self._labels else ()
        yield "\t".join(("chrom", "pos", "id", "ref", "alt", *label, "score", "why"))
        with progress_bar(self._path.stat().st_size, "scoring", "B") as advance:
            variants = read_variants(self._path, self._labels, advance)
            model = self._model
            for found in score_variants(
                model.model, model.tokenization, self._genome, variants, self._options
            ):
                self._count(found)
                yield self._line(found)

    def _line(self, found: VariantScore) -> str:
        variant, score, why = found
        fields = [*map(table_field, variant[:5])]
        if self._labels:
            fields.append("" if variant.label is None else str(int(variant.label)))
        return "\t".join((*fields, "" if why else f"{score:.6f}", table_field(why)))

    def _count(self, found: VariantScore) -> None:
        if found.why:
            self.listed[found.why.partition(":")[0]] += 1
            return
        self.scored += 1
        if found.variant.label is not None:
            chromosome = plain_name(found.variant.chrom)
            self._labelled.append((found.score, found.variant.label, chromosome))

    def summary(self) -> str:
        """What was scored and what was not and, of labels, how well they are told apart.

        Raises
        ------
        UserError
            If nothing could be scored, or the labels are all the same.
        """
        listed = sum(self.listed.values())
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.listed.most_common())
        if not self.scored:
            raise UserError(
                f"{self._path}: no alternative could be scored ({reasons or 'it has none'}), "
                f"wanted variants called on {self._genome.name}"
            )
        text = f"scored {self.scored:,} of {self.scored + listed:,} alternatives"
        text += f"; listed without a score: {reasons}" if listed else ""
        return f"{text}\n{self._describe_labels()}" if self._labels else text

    def _describe_labels(self) -> str:
        labels = [label for _, label, _ in self._labelled]
        if len(set(labels)) < 2:
            raise UserError(
                f"--labels {self._labels}: found {len(labels):,} scored variants with a label, "
                f"{sum(labels):,} of them 1, wanted both 0 and 1"
            )
        scores, _, chromosomes = zip(*self._labelled, strict=True)
        return describe_metrics(np.array(scores), np.array(labels), chromosomes)


def write_lines(lines: Iterator[str], out: Path | None) -> None:
    """Write lines to a file (UTF-8), which appears when all is done, or to standard output."""
    if out is None:
        encoding = sys.stdout.encoding or "utf-8"
        for line in lines:
            known = line.encode(encoding, "backslashreplace").decode(encoding)
            sys.stdout.write(f"{known}\n")
        return
    with atomic_write(out, "wb") as handle:
        handle.writelines(f"{line}\n".encode() for line in lines)
