"""The genome store on disk: a folder with `codes.u8`, `soft_mask.u1` and `genome.json`.

codes.u8     base codes, one byte per base, A T C G = 0 1 2 3, other = 4; contig after contig,
             exactly one code 4 between neighbors
soft_mask.u1 which bases are soft-masked, one bit per code (`cmgems.genome.soft_mask`)
genome.json  the manifest: format, version, dtype, name, bases, contigs (name, length, N, IUPAC
             codes, checksum as in `cmgems.genome.checksum`), sha256 of the genome, sources (path,
             size, mtime, sha256), the size and time of codes.u8, those of soft_mask.u1 with its
             sha256 and the bases that it marks, and a checksum over all of that

A store of version 2 has no soft mask, and is read without.

A store is never changed in place: a temporary folder is written next to it, synced and renamed.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from cmgems.errors import UserError
from cmgems.genome.soft_mask import SOFT_MASK
from cmgems.utils.files import atomic_write, file_lock, fsync_folder, hash_file
from cmgems.utils.progress import progress_bar

FORMAT = "cmgems genome store"
VERSION = 3
READABLE = (2, VERSION)
CODES, MANIFEST = "codes.u8", "genome.json"


class ContigEntry(TypedDict):
    """A contig in the manifest."""

    name: str
    length: int  # bases
    n_count: int  # bases with code 4
    iupac_count: int  # bases with an IUPAC code other than A C G T U N
    sha256: str


class SourceIdentity(TypedDict):
    """A source in the manifest."""

    path: str
    size: int  # bytes
    mtime_ns: int
    sha256: NotRequired[str]  # known once the source has been read


def genome_hash(contigs: list[ContigEntry]) -> str:
    """sha256 over the names, lengths and checksums of the contigs, in order."""
    lines = (f"{c['name']}\t{c['length']}\t{c['sha256']}\n" for c in contigs)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _checksum(manifest: dict[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest of a store whose codes are complete."""
    codes, mask = (folder / CODES).stat(), (folder / SOFT_MASK).stat()
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "dtype": "uint8",
        **manifest,
        "codes": {"size": codes.st_size, "mtime_ns": codes.st_mtime_ns},
    }
    times = {"size": mask.st_size, "mtime_ns": mask.st_mtime_ns}
    manifest["soft_mask"] = manifest["soft_mask"] | times
    manifest["checksum"] = _checksum(manifest)
    with atomic_write(folder / MANIFEST) as handle:
        json.dump(manifest, handle, indent=1)
        handle.write("\n")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a store, checked against itself and against the size of the codes."""
    remedy = _rebuild(folder)
    try:
        manifest: Any = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        fault = "is not a genome store" if folder.is_dir() else "does not exist"
        raise UserError(f"{folder}: {fault} (no {MANIFEST} in it); {remedy}") from error
    except OSError as error:
        raise UserError(f"{folder / MANIFEST}: {error.strerror}; {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{folder / MANIFEST}: is damaged (not JSON); {remedy}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{folder / MANIFEST}: is not the manifest of a genome store; {remedy}")
    version = manifest.get("version")
    if version not in READABLE:
        raise UserError(
            f"{folder}: is a store of version {version!r}, this cmgems reads {VERSION}; {remedy}"
        )
    if manifest.get("checksum") != _checksum(manifest):
        raise UserError(f"{folder / MANIFEST}: is damaged (its checksum is wrong); {remedy}")
    return manifest


def _rebuild(folder: Path, source: str | Path = "SOURCE") -> str:
    """The remedy that a message ends with."""
    return f"build it again: cmgems genome {source} --out {folder}"


def map_codes(folder: Path, manifest: dict[str, Any]) -> np.ndarray:
    """The codes as a read-only memory map; verified in full unless untouched since the build."""
    path = folder / CODES
    size = manifest["codes"]["size"]
    try:
        status = path.stat()
        if status.st_size != size:
            raise UserError(
                f"{path}: has {status.st_size} bytes, wanted {size} as in the manifest;"
                f" {_rebuild(folder)}"
            )
        codes = np.memmap(path, np.uint8, "r", shape=(size,))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {_rebuild(folder)}") from error
    if status.st_mtime_ns != manifest["codes"]["mtime_ns"]:
        verify_codes(folder, manifest, codes)
    return codes


def map_soft_mask(folder: Path, manifest: dict[str, Any]) -> np.ndarray | None:
    """The bits of the soft mask as a read-only memory map, verified as the codes are; None where
    the store was built before there were any."""
    if manifest["version"] < VERSION:
        return None
    path, wanted = folder / SOFT_MASK, manifest["soft_mask"]
    try:
        status = path.stat()
        if status.st_size != wanted["size"]:
            raise UserError(
                f"{path}: has {status.st_size} bytes, wanted {wanted['size']} as in the manifest;"
                f" {_rebuild(folder)}"
            )
        bits = np.memmap(path, np.uint8, "r", shape=(status.st_size,))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {_rebuild(folder)}") from error
    if status.st_mtime_ns != wanted["mtime_ns"]:
        verify_soft_mask(folder, manifest)
    return bits


def verify_soft_mask(folder: Path, manifest: dict[str, Any]) -> None:
    """Compare the soft mask, where the store has one, with its checksum."""
    path = folder / SOFT_MASK
    if manifest["version"] >= VERSION and hash_file(path) != manifest["soft_mask"]["sha256"]:
        raise UserError(f"{path}: is damaged (its checksum is wrong); {_rebuild(folder)}")


def verify_codes(folder: Path, manifest: dict[str, Any], codes: np.ndarray) -> None:
    """Compare every contig with its checksum."""
    # heavy (numba), and not needed where the store is as it was built
    from cmgems.genome.checksum import hash_codes

    start = 0
    with progress_bar(len(codes), f"verifying {folder.name}", "b") as advance:
        for contig in manifest["contigs"]:
            stop = start + contig["length"]
            digest = hash_codes(codes[start:stop], advance)
            if digest != contig["sha256"] or (stop < len(codes) and codes[stop] != 4):
                raise UserError(
                    f"{folder / CODES}: contig {contig['name']!r} is damaged (its checksum is"
                    f" wrong); {_rebuild(folder)}"
                )
            start = stop + 1


def refuse_stale(folder: Path, manifest: dict[str, Any]) -> None:
    """Refuse a store if the content of one of its sources has changed.

    The time of a source may differ in either direction (a file restored from a backup is older);
    only then, and where the size is the same, the content decides. A source that no longer exists
    is accepted.
    """
    for source in manifest["sources"]:
        path = Path(source["path"])
        try:
            status = path.stat()
        except OSError:
            continue
        same = status.st_size == source["size"]
        if same and status.st_mtime_ns == source["mtime_ns"]:
            continue
        with contextlib.suppress(PermissionError):
            same = same and hash_file(path) == source["sha256"]
        if not same:
            raise UserError(
                f"{folder}: is stale: {path} has changed since it was built;"
                f" {_rebuild(folder, path)}"
            )


def store_lock(path: Path, *, wait: bool = False) -> AbstractContextManager[None]:
    """The lock of a store that is to be built or removed at `path`: a file next to the folder."""
    busy = f"{path}: another process is building this store"
    return file_lock(path.with_name(f".{path.name}.lock"), busy, wait=wait)


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `path` when the block ends without an error."""
    temporary, old = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.old")
    for leftover in (temporary, old):  # of a builder that was killed: we hold the lock
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        fsync_folder(temporary)
        if path.exists():
            os.rename(path, old)
        os.rename(temporary, path)
        fsync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
