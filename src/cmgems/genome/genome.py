"""Genomes as base codes on disk: build a store, open one.

Codes are uint8, A T C G = 0 1 2 3 and 4 for N and every other IUPAC code. Exactly one code 4
separates neighboring contigs, so no window and no k-mer joins two of them.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.formats.base import open_source
from cmgems.genome.store import (
    CODES,
    MANIFEST,
    ContigEntry,
    SourceIdentity,
    genome_hash,
    map_codes,
    read_manifest,
    refuse_stale,
    replace_folder,
    store_lock,
    write_manifest,
)
from cmgems.utils.files import hash_file
from cmgems.utils.progress import progress_bar

_SUFFIXES = (".gz", ".bgz", ".fa", ".fasta", ".fna", ".fas", ".2bit", ".gb", ".gbk", ".gbff")


@dataclass(frozen=True)
class Contig:
    """A contig of a genome: a chromosome, scaffold or plasmid."""

    name: str
    start: int  # offset of its first base in Genome.codes
    length: int  # bases
    n_count: int  # bases with code 4: N and every other IUPAC code
    iupac_count: int = 0  # bases with an IUPAC code other than A C G T U N


@dataclass(frozen=True)
class Genome:
    """A genome store that is open for reading."""

    path: Path
    name: str
    contigs: tuple[Contig, ...]
    codes: np.ndarray  # uint8, read-only memory map
    sha256: str  # of the codes and the contig names

    @property
    def bases(self) -> int:
        return sum(c.length for c in self.contigs)

    @property
    def n_count(self) -> int:
        return sum(c.n_count for c in self.contigs)

    def contig(self, name: str) -> Contig:
        """The contig of this name; a `UserError` lists some names if there is none."""
        for contig in self.contigs:
            if contig.name == name:
                return contig
        some = ", ".join(contig.name for contig in self.contigs[:5])
        more = ", …" if len(self.contigs) > 5 else ""
        raise UserError(f"{self.path}: has no contig {name!r}; it has {some}{more}")


def build_genome(
    sources: Sequence[Path], out: Path, *, threads: int = 1, progress: bool = True
) -> Genome:
    """Write the sequence of one or more files as a genome store, and open it.

    Parameters
    ----------
    sources : FASTA (plain, gzip, bgzip), 2bit, GenBank or EMBL files, in the order of the contigs
    out : folder of the store; an older store there is replaced, anything else is refused
    threads : with more than one, the sources are checksummed while they are converted
    progress : show a progress bar on standard error

    Raises
    ------
    UserError
        If a source cannot be used, or `out` is something other than a store.
    """
    sources = [Path(source) for source in sources]
    out = Path(out)
    _check_target(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with store_lock(out):
            write_store(sources, out, threads, progress)
    except OSError as error:
        raise UserError(
            f"{out}: {error.strerror}; wanted: a folder that can be written, with room for one byte"
            " per base"
        ) from error
    return open_genome(out)


def open_genome(path: str | os.PathLike[str]) -> Genome:
    """Open a genome store.

    Raises
    ------
    UserError
        If it is not a store, is damaged or truncated, of another format version, or if one of its
        sources has changed since it was built.
    """
    path = Path(path)
    manifest = read_manifest(path)
    refuse_stale(path, manifest)
    codes = map_codes(path, manifest)
    contigs: list[Contig] = []
    start = 0
    for entry in manifest["contigs"]:
        contig = Contig(
            entry["name"], start, entry["length"], entry["n_count"], entry["iupac_count"]
        )
        contigs.append(contig)
        start += contig.length + 1
    return Genome(path, manifest["name"], tuple(contigs), codes, manifest["sha256"])


def genome_name(sources: Sequence[Path]) -> str:
    """A name from the names of the files: `chr20` of `/data/chr20.fa.gz`."""
    stems: list[str] = []
    for source in sources:
        stem = source.name
        while Path(stem).suffix.lower() in _SUFFIXES:
            stem = Path(stem).stem
        stems.append(stem)
    return "+".join(stems) if len(stems) <= 3 else f"{stems[0]}+{len(stems) - 1}_more"


def _check_target(out: Path) -> None:
    if out.is_dir():
        if any(out.iterdir()) and not (out / MANIFEST).exists():
            raise UserError(f"{out}: is a folder that is not a genome store; give another --out")
    elif out.exists():
        raise UserError(f"{out}: is a file; --out wants a folder")


def write_store(sources: list[Path], out: Path, threads: int, progress: bool) -> None:
    """Build a store whose lock the caller holds (`cmgems.genome.store.store_lock`)."""
    with replace_folder(out) as folder, ThreadPoolExecutor(max(threads - 1, 1)) as pool:
        identities = [source_identity(source) for source in sources]
        digests = pool.map(hash_file, sources) if threads > 1 else map(hash_file, sources)
        try:
            contigs = _write_codes(sources, folder / CODES, progress)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        for source, identity, digest in zip(sources, identities, digests, strict=True):
            if source_identity(source) != identity:
                raise UserError(f"{source}: changed while it was read")
            identity["sha256"] = digest
        write_manifest(
            folder,
            {
                "name": genome_name(sources),
                "bases": sum(contig["length"] for contig in contigs),
                "contigs": contigs,
                "sha256": genome_hash(contigs),
                "sources": identities,
            },
        )


def source_identity(source: Path) -> SourceIdentity:
    """Path, size and time of a source: they differ if it is no longer the same file."""
    with open_source(source):
        status = source.stat()
    path = str(source.resolve())
    return {"path": path, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _write_codes(sources: list[Path], path: Path, progress: bool) -> list[ContigEntry]:
    """Write the codes, and return the contigs for the manifest."""
    # heavy (numba), and not needed where the store exists already
    from cmgems.genome.contigs import ContigList
    from cmgems.genome.formats.reader import read_chunks

    contigs = ContigList()
    total = sum(source.stat().st_size for source in sources)
    with (
        open(path, "wb") as handle,
        progress_bar(total, "reading", "B", progress) as advance,
    ):
        for source in sources:
            for chunk in read_chunks(source, advance):
                codes = chunk.codes[1:] if contigs.is_empty else chunk.codes
                contigs.add(source, chunk)
                handle.write(codes.data)
            contigs.close()
        handle.flush()
        os.fsync(handle.fileno())
    return contigs.finish()
