"""K-mer counts of a source that a user names: a store, a sequence file, a file of counts.

A sequence file is counted while it is read, without a store. The counts of a store are cached in
its folder `counts/`, and are used only if they carry the hash of the genome.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cmgems.difficulty.counts import (
    MAX_K,
    CountedGenome,
    KmerCounts,
    count_chunks,
    count_words,
)
from cmgems.difficulty.counts_io import is_counts_file, read_counts, write_counts
from cmgems.difficulty.repeats import genome_repeats
from cmgems.errors import UserError
from cmgems.genome.alphabet import AMBIGUOUS
from cmgems.genome.cache import load_genome
from cmgems.genome.contigs import ContigList
from cmgems.genome.formats.reader import read_chunks
from cmgems.genome.genome import Genome, genome_name, source_identity
from cmgems.genome.store import genome_hash
from cmgems.utils.progress import progress_bar

_CHUNK = 1 << 22  # bases that are counted at a time
_MAX_CACHED_K = 10  # counts of longer words take longer to read than to compute


def count_source_kmers(source: str, k: int, *, threads: int | None = None) -> KmerCounts:
    """Counts of the words of 1, 2, ... k bases of a source.

    Parameters
    ----------
    source : `sample`, a genome store, a sequence file, or a file of `write_counts`
    k : 1 to 12
    threads : None for one per core

    Raises
    ------
    UserError
        If the source cannot be used, or has no k-mer or only counts of shorter words.
    """
    path = Path(source).expanduser()
    if source == "sample" or path.is_dir():
        return count_genome_kmers(load_genome(source), k, threads=threads)
    if is_counts_file(path):
        counts = read_counts(path)
        if counts.k < k:
            raise UserError(f"{path}: holds counts up to k = {counts.k}; wanted: k = {k}")
        return counts.up_to(k)
    return count_file_kmers(path, k, threads=threads)


def count_genome_kmers(genome: Genome, k: int, *, threads: int | None = None) -> KmerCounts:
    """Counts of a store, cached in it if it can be written to."""
    _check_k(k)
    source: CountedGenome = {"name": genome.name, "sha256": genome.sha256, "bases": genome.bases}
    for cached_k in range(k, _MAX_CACHED_K + 1):
        with contextlib.suppress(UserError):  # missing or damaged: count
            cached = read_counts(_cache_path(genome, cached_k))
            if cached.k == cached_k and cached.genomes == (source,) and not cached.both_strands:
                return cached.up_to(k)
    with progress_bar(len(genome.codes), "counting", "b") as advance:
        counts = count_words(genome.codes, k, threads=threads, advance=advance)
    counts = KmerCounts(counts.tables, False, (source,))
    _refuse_empty(counts, str(genome.path))
    if k <= _MAX_CACHED_K:
        with contextlib.suppress(OSError):  # a store that we may not write to
            _cache_path(genome, k).parent.mkdir(exist_ok=True)
            write_counts(counts, _cache_path(genome, k))
    return counts


def count_outside_repeats(genome: Genome, k: int, *, threads: int | None = None) -> KmerCounts:
    """Counts of a store without the bases in repeats, which break the sequence as an N does."""
    _check_k(k)
    repeats = genome_repeats(genome)

    def chunks() -> Iterator[np.ndarray]:
        with progress_bar(len(genome.codes), "counting outside repeats", "b") as advance:
            for start in range(0, len(genome.codes), _CHUNK):
                codes = np.array(genome.codes[start : start + _CHUNK])
                codes[repeats.holds(start, len(codes))] = AMBIGUOUS
                yield codes
                advance(len(codes))

    source: CountedGenome = {"name": genome.name, "sha256": genome.sha256, "bases": genome.bases}
    counts = KmerCounts(count_chunks(chunks(), k, threads=threads).tables, False, (source,))
    _refuse_empty(counts, f"{genome.path} without repeats")
    return counts


def count_file_kmers(path: Path, k: int, *, threads: int | None = None) -> KmerCounts:
    """Counts of a sequence file, in one pass over it that also computes the genome's hash."""
    _check_k(k)
    contigs = ContigList()
    identity = source_identity(path)

    def chunks() -> Iterator[np.ndarray]:
        with progress_bar(identity["size"], f"counting {path.name}", "B") as advance:
            for chunk in read_chunks(path, advance):
                contigs.add(path, chunk)
                yield chunk.codes
            contigs.close()

    counts = count_chunks(chunks(), k, threads=threads)
    if source_identity(path) != identity:
        raise UserError(f"{path}: changed while it was read")
    entries = contigs.finish()
    source: CountedGenome = {
        "name": genome_name([path]),
        "sha256": genome_hash(entries),
        "bases": sum(entry["length"] for entry in entries),
    }
    counts = KmerCounts(counts.tables, False, (source,))
    _refuse_empty(counts, str(path))
    return counts


def _cache_path(genome: Genome, k: int) -> Path:
    return genome.path / "counts" / f"k{k}.counts"


def _check_k(k: int) -> None:
    if not 1 <= k <= MAX_K:
        raise UserError(f"k is {k}; wanted: 1 to {MAX_K}")


def _refuse_empty(counts: KmerCounts, source: str) -> None:
    if not counts.tables[-1].any():
        raise UserError(
            f"{source}: has no stretch of {counts.k} bases without N; wanted: longer sequence or a"
            " smaller k"
        )
