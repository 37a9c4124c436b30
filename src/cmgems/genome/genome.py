"""Genomes as base codes on disk: build a store, open one.

Codes are uint8, A T C G = 0 1 2 3 and 4 for N and every other IUPAC code. Exactly one code 4
separates neighboring contigs, so no window and no k-mer joins two of them.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.formats.base import open_source
from cmgems.genome.soft_mask import SOFT_MASK, SoftMaskWriter, write_spans
from cmgems.genome.spans import Spans
from cmgems.genome.store import (
    CODES,
    MANIFEST,
    ContigEntry,
    SourceIdentity,
    genome_hash,
    map_codes,
    map_soft_mask,
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
    soft_mask_bits: np.ndarray | None = None  # see `cmgems.genome.soft_mask`; None: not known
    soft_masked: int | None = None  # known bases in lower case, or in repeats

    def soft_mask(self, start: int, end: int) -> np.ndarray:
        """bool [end - start]: whether the bases `codes[start:end]` are soft-masked.

        Raises
        ------
        UserError
            If the store was built by a cmgems that did not keep it.
        """
        if self.soft_mask_bits is None:
            raise UserError(
                f"{self.path}: was built without the case of its bases; build it again: "
                f"cmgems genome SOURCE --out {self.path}"
            )
        first = start & ~7
        bits = np.unpackbits(self.soft_mask_bits[first >> 3 : -(-end // 8)], bitorder="little")
        return bits[start - first : end - first].view(bool)

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
    sources: Sequence[Path],
    out: Path,
    *,
    threads: int = 1,
    progress: bool = True,
    repeats: Callable[[Genome], Spans] | None = None,
) -> Genome:
    """Write the sequence of one or more files as a genome store, and open it.

    Parameters
    ----------
    sources : FASTA (plain, gzip, bgzip), 2bit, GenBank or EMBL files, in the order of the contigs
    out : folder of the store; an older store there is replaced, anything else is refused
    threads : with more than one, the sources are checksummed while they are converted
    progress : show a progress bar on standard error
    repeats : what is soft-masked, of the genome without it; None: what is in lower case

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
            write_store(sources, out, threads, progress, repeats)
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
    return _assemble(path, manifest)


def _assemble(path: Path, manifest: dict[str, Any]) -> Genome:
    """The genome of a store whose manifest has been checked."""
    codes, bits = map_codes(path, manifest), map_soft_mask(path, manifest)
    contigs: list[Contig] = []
    start = 0
    for entry in manifest["contigs"]:
        contig = Contig(
            entry["name"], start, entry["length"], entry["n_count"], entry["iupac_count"]
        )
        contigs.append(contig)
        start += contig.length + 1
    soft_masked = None if bits is None else manifest["soft_mask"]["bases"]
    return Genome(
        path, manifest["name"], tuple(contigs), codes, manifest["sha256"], bits, soft_masked
    )


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


def write_store(
    sources: list[Path],
    out: Path,
    threads: int,
    progress: bool,
    repeats: Callable[[Genome], Spans] | None = None,
) -> None:
    """Build a store whose lock the caller holds (`cmgems.genome.store.store_lock`)."""
    with replace_folder(out) as folder, ThreadPoolExecutor(max(threads - 1, 1)) as pool:
        identities = [source_identity(source) for source in sources]
        digests = pool.map(hash_file, sources) if threads > 1 else map(hash_file, sources)
        try:
            contigs, soft_mask = _write_codes(sources, folder, progress)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        for source, identity, digest in zip(sources, identities, digests, strict=True):
            if source_identity(source) != identity:
                raise UserError(f"{source}: changed while it was read")
            identity["sha256"] = digest
        manifest = {
            "name": genome_name(sources),
            "bases": sum(contig["length"] for contig in contigs),
            "contigs": contigs,
            "sha256": genome_hash(contigs),
            "sources": identities,
            "soft_mask": soft_mask,
        }
        write_manifest(folder, manifest)
        if repeats is not None:
            genome = _assemble(folder, read_manifest(folder))
            marked = write_spans(folder / SOFT_MASK, genome.codes, repeats(genome))
            write_manifest(folder, manifest | {"soft_mask": marked})


def source_identity(source: Path) -> SourceIdentity:
    """Path, size and time of a source: they differ if it is no longer the same file."""
    with open_source(source):
        status = source.stat()
    path = str(source.resolve())
    return {"path": path, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _write_codes(
    sources: list[Path], folder: Path, progress: bool
) -> tuple[list[ContigEntry], dict[str, Any]]:
    """Write the codes and the soft mask; what the manifest says of the contigs and of it."""
    # heavy (numba), and not needed where the store exists already
    from cmgems.genome.contigs import ContigList
    from cmgems.genome.formats.reader import read_chunks

    contigs = ContigList()
    total = sum(source.stat().st_size for source in sources)
    with (
        open(folder / CODES, "wb") as handle,
        open(folder / SOFT_MASK, "wb") as mask_handle,
        progress_bar(total, "reading", "B", progress) as advance,
    ):
        mask = SoftMaskWriter(mask_handle)
        for source in sources:
            for chunk in read_chunks(source, advance, with_case=True):
                first = int(contigs.is_empty)  # no code between contigs before the first
                contigs.add(source, chunk)
                handle.write(chunk.codes[first:].data)
                count = len(chunk.codes)
                lower = np.zeros(-(-count // 64), np.uint64) if chunk.lower is None else chunk.lower
                mask.add(lower, first, count)
            contigs.close()
        handle.flush()
        os.fsync(handle.fileno())
        return contigs.finish(), mask.finish()
