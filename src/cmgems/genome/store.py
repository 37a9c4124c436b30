"""The genome store on disk: a folder with `codes.u8` and `genome.json`.

codes.u8     base codes, one byte a base, A T C G = 0 1 2 3, other = 4; contig after contig,
             exactly one code 4 between neighbours
genome.json  the manifest: format, version, dtype, name, bases, contigs (name, length, N, IUPAC
             codes, checksum as in `cmgems.genome.checksum`), sha256 of the genome, sources (path,
             size, mtime, sha256), the size and time of codes.u8, and a checksum over all of that

A store is never changed in place: it is written as a folder beside, synced and renamed.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np

from cmgems.errors import UserError
from cmgems.utils.files import atomic_write, file_lock, fsync_folder, hash_file
from cmgems.utils.progress import progress_bar

FORMAT = "cmgems genome store"
VERSION = 2
CODES, MANIFEST = "codes.u8", "genome.json"


def genome_hash(contigs: list[dict]) -> str:
    """sha256 over the names, lengths and checksums of the contigs, in order."""
    lines = (f"{c['name']}\t{c['length']}\t{c['sha256']}\n" for c in contigs)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _checksum(manifest: dict) -> str:
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def write_manifest(folder: Path, manifest: dict) -> None:
    codes = (folder / CODES).stat()
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "dtype": "uint8",
        **manifest,
        "codes": {"size": codes.st_size, "mtime_ns": codes.st_mtime_ns},
    }
    manifest["checksum"] = _checksum(manifest)
    with atomic_write(folder / MANIFEST) as handle:
        json.dump(manifest, handle, indent=1)
        handle.write("\n")


def read_manifest(folder: Path) -> dict:
    """The manifest of a store, checked against itself and against the size of the codes."""
    again = f"build it again: cmgems genome SOURCE --out {folder}"
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        what = "is not a genome store" if folder.is_dir() else "does not exist"
        raise UserError(f"{folder}: {what} (no {MANIFEST} in it); {again}") from error
    except OSError as error:
        raise UserError(f"{folder / MANIFEST}: {error.strerror}; {again}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{folder / MANIFEST}: is damaged (not JSON); {again}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{folder / MANIFEST}: is not the manifest of a genome store; {again}")
    if manifest.get("version") != VERSION:
        found = manifest.get("version")
        raise UserError(
            f"{folder}: is a store of version {found!r}, this cmgems reads {VERSION}; {again}"
        )
    if manifest.get("checksum") != _checksum(manifest):
        raise UserError(f"{folder / MANIFEST}: is damaged (its checksum is wrong); {again}")
    return manifest


def map_codes(folder: Path, manifest: dict) -> np.ndarray:
    """The codes as a read-only memory map; verified in full unless untouched since the build."""
    again = f"build it again: cmgems genome SOURCE --out {folder}"
    path = folder / CODES
    size = manifest["codes"]["size"]
    try:
        found = path.stat()
        if found.st_size != size:
            raise UserError(f"{path}: has {found.st_size} bytes, the manifest says {size}; {again}")
        codes = np.memmap(path, np.uint8, "r", shape=(size,))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {again}") from error
    if found.st_mtime_ns != manifest["codes"]["mtime_ns"]:
        verify_codes(folder, manifest, codes)
    return codes


def verify_codes(folder: Path, manifest: dict, codes: np.ndarray) -> None:
    """Compare every contig with its checksum."""
    # compiled; a store that is as it was needs none of this
    from cmgems.genome.checksum import hash_codes

    start = 0
    with progress_bar(len(codes), f"verifying {folder.name}", "b") as advance:
        for contig in manifest["contigs"]:
            stop = start + contig["length"]
            found = hash_codes(codes[start:stop], advance)
            if found != contig["sha256"] or (stop < len(codes) and codes[stop] != 4):
                raise UserError(
                    f"{folder / CODES}: contig {contig['name']!r} is damaged (its checksum is"
                    f" wrong); build it again: cmgems genome SOURCE --out {folder}"
                )
            start = stop + 1


def refuse_stale(folder: Path, manifest: dict) -> None:
    """A store whose source has other content by now is not used in silence.

    The time may differ in either direction (a file put back from a backup is older); only then,
    and where the size is the same, the content decides. A source that is gone is no fault.
    """
    for source in manifest["sources"]:
        path = Path(source["path"])
        try:
            found = path.stat()
        except OSError:
            continue
        same = found.st_size == source["size"]
        if same and found.st_mtime_ns == source["mtime_ns"]:
            continue
        with contextlib.suppress(PermissionError):
            same = same and hash_file(path) == source["sha256"]
        if not same:
            raise UserError(
                f"{folder}: is stale: {path} has changed since it was built;"
                f" build it again: cmgems genome {path} --out {folder}"
            )


def store_lock(path: Path, *, wait: bool = False) -> AbstractContextManager[None]:
    """The lock of a store that is to be built or removed at `path`; it lies beside the folder."""
    busy = f"{path}: another process is building this store"
    return file_lock(path.with_name(f".{path.name}.lock"), busy, wait=wait)


@contextmanager
def folder_replacing(path: Path) -> Iterator[Path]:
    """A folder beside `path` that takes its place when the block ends without an error."""
    beside, old = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.old")
    for leftover in (beside, old):  # of a builder that was killed; the lock is ours
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        yield beside
        fsync_folder(beside)
        if path.exists():
            os.rename(path, old)
        os.rename(beside, path)
        fsync_folder(path.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
