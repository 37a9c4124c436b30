"""K-mer counts of whatever a user names: a store, a sequence file, a file of counts.

A sequence file is counted while it is read, without a store. The counts of a store are kept in
it, in `counts/`, and are believed only if they carry the hash of the genome.
"""

import contextlib
from pathlib import Path

from cmgems.difficulty.counts import MAX_K, KmerCounts, count_chunks, count_words
from cmgems.difficulty.counts_io import is_counts_file, read_counts, write_counts
from cmgems.errors import UserError
from cmgems.genome.cache import load_genome
from cmgems.genome.contigs import ContigList
from cmgems.genome.formats.reader import read_chunks
from cmgems.genome.genome import Genome, genome_name, source_identity
from cmgems.genome.store import genome_hash
from cmgems.utils.progress import progress_bar

_KEPT_K = 10  # counts of longer words take longer to read than to make


def count_source_kmers(source: str, k: int, *, threads: int | None = None) -> KmerCounts:
    """Counts of the words of 1, 2, ... k bases of a source that a user named."""
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
    """Counts of a store; kept in it where that is allowed."""
    _check_k(k)
    said = {"name": genome.name, "sha256": genome.sha256, "bases": genome.bases}
    for kept_k in range(k, _KEPT_K + 1):
        with contextlib.suppress(UserError):  # not there, or damaged: count
            kept = read_counts(_kept_at(genome, kept_k))
            if kept.k == kept_k and kept.genomes == (said,) and not kept.both_strands:
                return kept.up_to(k)
    with progress_bar(len(genome.codes), "counting", "b") as advance:
        counts = count_words(genome.codes, k, threads=threads, advance=advance)
    counts = KmerCounts(counts.tables, False, (said,))
    _refuse_none(counts, str(genome.path))
    if k <= _KEPT_K:
        with contextlib.suppress(OSError):  # a store that we may not write to
            _kept_at(genome, k).parent.mkdir(exist_ok=True)
            write_counts(counts, _kept_at(genome, k))
    return counts


def count_file_kmers(path: Path, k: int, *, threads: int | None = None) -> KmerCounts:
    """Counts of a sequence file, in one pass over it that also takes the genome's hash."""
    _check_k(k)
    contigs = ContigList()
    identity = source_identity(path)

    def pieces():
        with progress_bar(identity["size"], f"counting {path.name}", "B") as advance:
            for piece in read_chunks(path, advance):
                contigs.add(path, piece)
                yield piece.codes
            contigs.close(path)

    counts = count_chunks(pieces(), k, threads=threads)
    if source_identity(path) != identity:
        raise UserError(f"{path}: changed while it was read")
    found = contigs.finish()
    bases = sum(contig["length"] for contig in found)
    said = {"name": genome_name([path]), "sha256": genome_hash(found), "bases": bases}
    counts = KmerCounts(counts.tables, False, (said,))
    _refuse_none(counts, str(path))
    return counts


def _kept_at(genome: Genome, k: int) -> Path:
    return genome.path / "counts" / f"k{k}.counts"


def _check_k(k: int) -> None:
    if not 1 <= k <= MAX_K:
        raise UserError(f"k is {k}; wanted: 1 to {MAX_K}")


def _refuse_none(counts: KmerCounts, source: str) -> None:
    if not counts.tables[-1].any():
        raise UserError(
            f"{source}: has no stretch of {counts.k} bases without N; wanted: longer sequence or a"
            " smaller k"
        )
