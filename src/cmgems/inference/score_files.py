"""`cmgems score`: files of sequences or variants -> tables of scores."""

import sys
from collections.abc import Iterator
from pathlib import Path

from cmgems.errors import UserError
from cmgems.genome.cache import load_genome
from cmgems.hub.pretrained import Pretrained
from cmgems.inference.embed_file import read_tokenizable_sequences
from cmgems.inference.likelihood import length_problem, pseudo_log_likelihood
from cmgems.inference.variants import read_variants, score_variants
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


def variant_lines(model: Pretrained, path: Path, genome: str, window: int) -> Iterator[str]:
    """A header, then a line for each alternative; `score` is empty where `why` gives a reason."""
    variants, opened = read_variants(path), load_genome(genome)
    yield "chrom\tpos\tid\tref\talt\tscore\twhy"
    scores = score_variants(model.model, model.tokenization, opened, variants, window)
    with progress_bar(len(variants), "scoring", "variants") as advance:
        for variant, score, why in scores:
            value = "" if why else f"{score:.6f}"
            yield "\t".join(map(str, (*variant[:-1], value, why)))
            advance(1)


def write_lines(lines: Iterator[str], out: Path | None) -> None:
    """Write lines to a file, which appears when all is done, or to standard output."""
    if out is None:
        for line in lines:
            sys.stdout.write(f"{line}\n")
        return
    with atomic_write(out) as handle:
        handle.writelines(f"{line}\n" for line in lines)
