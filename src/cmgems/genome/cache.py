"""The genome that a user names; stores that are built once per file and stay in a cache.

    >>> genome = load_genome("sample")
    >>> genome.name, len(genome.codes)
    ('GRCh37_20_44000001-48000000', 4000000)

Whenever a store is added, others may be evicted: see `evict`. A process that has a store open holds
a shared lock on its manifest until it ends; a locked store is not removed.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from cmgems.downloads.fetch import fetch
from cmgems.downloads.registry import is_genome
from cmgems.errors import UserError
from cmgems.genome.formats.base import open_source
from cmgems.genome.genome import Genome, genome_name, open_genome, write_store
from cmgems.genome.store import MANIFEST, store_lock
from cmgems.utils.cache_folder import cache_folder
from cmgems.utils.files import is_same_file

SAMPLE = "GRCh37_20_44000001-48000000.2bit"
_STORE = re.compile(r"-([0-9a-f]{16})$")
_LEFTOVER = re.compile(r"^\.(.+-[0-9a-f]{16})\.(part|old)$")
_ORPHAN_SECONDS = 7 * 24 * 3600  # that a store without source outlives its last use
_LIMIT_GB = 50
_shared_locks: dict[Path, int] = {}  # store -> descriptor of its manifest, locked by this process


def load_genome(source: str) -> Genome:
    """The genome that a user names: `sample`, a store, a sequence file, or a public genome.

    A sequence file is built into the cache at first use, and again once the file has changed. A
    public genome, such as `hg38` or `hg38/chr20`, is fetched before (`cmgems.downloads`).
    """
    if str(source) == "sample":
        return cached_genome(sample_path())
    path = Path(source).expanduser()
    if not path.exists() and is_genome(str(source)):
        path = fetch(str(source))
    return open_genome(path) if path.is_dir() else cached_genome(path)


def sample_path() -> Path:
    """The 2bit file with the sample genome that is shipped with the package."""
    return Path(str(resources.files("cmgems") / "sample" / SAMPLE))


def cached_genome(source: Path) -> Genome:
    """The store of a sequence file; built first if it is missing or can no longer be used.

    A file that was replaced, even by an older one, gets another store.
    """
    with open_source(source):
        digest = _digest(source)
    return cached_store(
        f"{genome_name([source])}-{digest}",
        lambda store: write_store([source], store, threads=2, progress=True),
    )


def cached_store(name: str, build: Callable[[Path], None]) -> Genome:
    """The store of this name in the cache; built first if it is missing or can no longer be used.

    Parameters
    ----------
    name : ends in a dash and a digest of 16 letters, of what the store is made of
    build : writes the store, whose lock is held
    """
    limit = _limit_bytes()
    store = cache_folder() / "genomes" / name
    if (genome := _try_open(store)) is not None:
        return genome
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        with store_lock(store, wait=True):
            if _try_open(store) is None:  # else another process has built it while we waited
                build(store)
            _acquire_shared_lock(store)
    except OSError as error:
        raise UserError(
            f"{store}: {error.strerror}; set CMGEMS_CACHE to a folder with room"
        ) from error
    with contextlib.suppress(OSError):  # another process evicts, or we may not remove
        evict(store.parent, except_store=store, limit=limit)
    return open_genome(store)


def evict(folder: Path, except_store: Path, limit: float) -> None:
    """Remove obsolete stores from the cache, and the least recently used ones that do not fit.

    Obsolete are stores whose source has changed since, stores whose source is gone, or that are of
    several genomes, and that nobody has used for a week, and what builders that were killed have
    left. If the rest exceeds `limit` bytes, the least recently used stores go. A store that a
    process has open or builds stays, and so does `except_store`.
    """
    for leftover in folder.iterdir():
        if match := _LEFTOVER.search(leftover.name):
            with contextlib.suppress(UserError), store_lock(folder / match[1]):
                shutil.rmtree(leftover, ignore_errors=True)
    stores = [p for p in folder.iterdir() if _STORE.search(p.name) and p != except_store]
    remaining = [store for store in stores if not _is_obsolete(store) or not _try_remove(store)]
    used = _size(except_store)
    for store in sorted(remaining, key=_last_use, reverse=True):
        size = _size(store)
        if used + size <= limit or not _try_remove(store):
            used += size


def _digest(source: Path) -> str:
    """A key that differs between files, and between states of the same file."""
    status = source.stat()
    key = f"{source.resolve()}\n{status.st_size}\n{status.st_mtime_ns}\n{status.st_ino}"
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _limit_bytes() -> float:
    """The size that the cache may have."""
    text = os.environ.get("CMGEMS_CACHE_GB", str(_LIMIT_GB))
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise UserError(f"CMGEMS_CACHE_GB is {text!r}; wanted: gigabytes, such as {_LIMIT_GB}")
    return 1e9 * limit


def _try_open(store: Path) -> Genome | None:
    """Open and lock a store; None if it is missing or damaged and has to be built."""
    try:
        _acquire_shared_lock(store)
        return open_genome(store)
    except UserError:
        return None


def _acquire_shared_lock(store: Path) -> None:
    """Prevent other processes from removing a store, if it exists, until this process ends."""
    with contextlib.suppress(OSError):  # it is missing, or the file system has no locks
        while True:
            manifest = os.open(store / MANIFEST, os.O_RDONLY)
            fcntl.flock(manifest, fcntl.LOCK_SH)
            if is_same_file(store / MANIFEST, manifest):
                break
            os.close(manifest)  # it was removed or built again while we waited
        if store in _shared_locks:
            os.close(_shared_locks[store])
        _shared_locks[store] = manifest
        os.utime(store)  # its last use


def release_all() -> None:
    """Allow other processes to remove the stores that this process has opened."""
    while _shared_locks:
        os.close(_shared_locks.popitem()[1])


def _last_use(store: Path) -> float:
    return store.stat().st_mtime


def _size(store: Path) -> int:
    return sum(path.stat().st_size for path in store.rglob("*") if path.is_file())


def _is_obsolete(store: Path) -> bool:
    """Whether its source has another content by now, or is gone for good."""
    name = _STORE.search(store.name)
    try:
        sources = json.loads((store / MANIFEST).read_bytes())["sources"]
        if not sources:  # of several genomes, named by their content
            return _is_unused(store)
        source = Path(sources[0]["path"])
    except (OSError, ValueError, LookupError, TypeError):
        return True  # damaged; it would be built again
    try:
        return name is None or _digest(source) != name[1]
    except (FileNotFoundError, NotADirectoryError):  # or on a disk that is not mounted now
        return _is_unused(store)
    except OSError:
        return False


def _is_unused(store: Path) -> bool:
    """Whether nobody has used it for long."""
    return time.time() - _last_use(store) > _ORPHAN_SECONDS


def _try_remove(store: Path) -> bool:
    """Remove a store unless a process uses or builds it; returns whether it is gone."""
    old = store.with_name(f".{store.name}.old")
    with contextlib.suppress(UserError, OSError), store_lock(store):
        with open(store / MANIFEST, "rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(store, old)
        shutil.rmtree(old, ignore_errors=True)
    return not store.exists()
