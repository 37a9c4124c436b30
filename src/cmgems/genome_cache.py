"""Stores that are built once for a sequence file and kept in the user's cache."""

import hashlib
import os
from importlib import resources
from pathlib import Path

from cmgems.errors import UserError
from cmgems.genome import SAMPLE, Genome, build_unlocked, genome_name, open_genome
from cmgems.genome_store import locked
from cmgems.sequence_files import open_source


def cache_folder() -> Path:
    """$CMGEMS_CACHE, else $XDG_CACHE_HOME/cmgems, else ~/.cache/cmgems."""
    if folder := os.environ.get("CMGEMS_CACHE"):
        return Path(folder).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "cmgems"


def sample_path() -> Path:
    """The 2bit file with the sample genome that is shipped with the package."""
    return Path(str(resources.files("cmgems") / "sample" / SAMPLE))


def cached_genome(source: Path) -> Genome:
    """The store of a sequence file; built first if it is not there or cannot be used any more.

    The key is the resolved path, size, time and inode: a file that was replaced, by an older one
    too, gets another store.
    """
    with open_source(source):
        found = source.stat()
    key = f"{source.resolve()}\n{found.st_size}\n{found.st_mtime_ns}\n{found.st_ino}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    store = cache_folder() / "genomes" / f"{genome_name([source])}-{digest}"
    if (usable := _opened(store)) is not None:
        return usable
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        with locked(store, wait=True):
            if _opened(store) is None:  # else another process has built it while we waited
                build_unlocked([source], store, threads=2, progress=True)
    except OSError as error:
        raise UserError(
            f"{store}: {error.strerror}; set CMGEMS_CACHE to a folder with room"
        ) from error
    return open_genome(store)


def _opened(store: Path) -> Genome | None:
    """The genome of a store; None if it is not there, or damaged, and has to be built."""
    try:
        return open_genome(store)
    except UserError:
        return None
