"""`cmgems score`: files of sequences or variants -> tables of scores."""

import sys
from collections.abc import Iterator
from pathlib import Path

from cmgems.errors import UserError
from cmgems.genome.cache import load_genome
from cmgems.hub.pretrained import Pretrained
from cmgems.inference.embed_file import model_sequences
from cmgems.inference.likelihood import pseudo_log_likelihood
from cmgems.inference.variants import read_variants, score_variants
from cmgems.utils.files import atomic_write
from cmgems.utils.progress import progress_bar


def sequence_lines(model: Pretrained, path: Path) -> Iterator[str]:
    """A header, then a line for each sequence."""
    yield "name\tbases\tscored\tlog_likelihood\tper_base"
    most = model.tokenization.max_bases(model.model.encoder.config.max_position_embeddings)
    for name, codes in model_sequences(path, model.tokenization):
        if len(codes) > most:
            raise UserError(f"{path}: {name} has {len(codes):,} bases, wanted at most {most:,}")
        found = pseudo_log_likelihood(model.model, model.tokenization, codes)
        mean = f"{found.mean:.6f}" if found.bases else ""
        yield f"{name}\t{len(codes)}\t{found.bases}\t{found.total:.6f}\t{mean}"


def variant_lines(model: Pretrained, path: Path, genome: str, window: int) -> Iterator[str]:
    """A header, then a line for each alternative; `score` is empty where `why` says why."""
    variants, opened = read_variants(path), load_genome(genome)
    yield "chrom\tpos\tid\tref\talt\tscore\twhy"
    found = score_variants(model.model, model.tokenization, opened, variants, window)
    with progress_bar(len(variants), "scoring", "variants") as advance:
        for variant, score, why in found:
            figure = "" if why else f"{score:.6f}"
            yield "\t".join(map(str, (*variant[:-1], figure, why)))
            advance(1)


def write_lines(lines: Iterator[str], out: Path | None) -> None:
    """To a file that is there when all is done, or to standard output."""
    if out is None:
        for line in lines:
            sys.stdout.write(f"{line}\n")
        return
    with atomic_write(out) as handle:
        handle.writelines(f"{line}\n" for line in lines)
