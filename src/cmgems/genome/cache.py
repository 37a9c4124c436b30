"""The genome that a user names; stores that are built once for a file and kept in a cache.

    >>> genome = load_genome("sample")
    >>> genome.name, len(genome.codes)
    ('GRCh37_20_44000001-48000000', 4000000)

Whenever a store is added, the cache is tidied: see `tidy`. A process that has a store open holds
a shared lock on its manifest for as long as it lives; what is locked is not removed.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from importlib import resources
from pathlib import Path

from cmgems.errors import UserError
from cmgems.genome.formats.base import open_source
from cmgems.genome.genome import Genome, build_unlocked, genome_name, open_genome
from cmgems.genome.store import MANIFEST, store_lock
from cmgems.utils.files import is_same_file

SAMPLE = "GRCh37_20_44000001-48000000.2bit"
_STORE = re.compile(r"-([0-9a-f]{16})$")
_LEFTOVER = re.compile(r"^\.(.+-[0-9a-f]{16})\.(part|old)$")
_WITHOUT_SOURCE = 7 * 24 * 3600  # seconds that a store outlives its last use: a disk may come back
_LIMIT_GB = 50
_held: dict[Path, int] = {}  # descriptors of the manifests that this process has locked


def load_genome(source: str) -> Genome:
    """The genome that a user names: `sample`, a store, or a sequence file.

    A sequence file is built into the cache at first use, and again once the file has changed.
    The cache is $CMGEMS_CACHE, else $XDG_CACHE_HOME/cmgems, else ~/.cache/cmgems.
    """
    if str(source) == "sample":
        return cached_genome(sample_path())
    path = Path(source).expanduser()
    return open_genome(path) if path.is_dir() else cached_genome(path)


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

    A file that was replaced, by an older one too, gets another store.
    """
    with open_source(source):
        digest = _digest(source)
    limit = _limit()
    store = cache_folder() / "genomes" / f"{genome_name([source])}-{digest}"
    if (usable := _opened(store)) is not None:
        return usable
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        with store_lock(store, wait=True):
            if _opened(store) is None:  # else another process has built it while we waited
                build_unlocked([source], store, threads=2, progress=True)
            _hold(store)
    except OSError as error:
        raise UserError(
            f"{store}: {error.strerror}; set CMGEMS_CACHE to a folder with room"
        ) from error
    with contextlib.suppress(OSError):  # another process tidies, or we may not remove
        tidy(store.parent, keep=store, limit=limit)
    return open_genome(store)


def tidy(folder: Path, keep: Path, limit: float) -> None:
    """Remove from the cache what is of no use any more, and more than fits.

    Removed are stores whose source has changed since, stores whose source is gone and that nobody
    has used for a week, and what builders that were killed have left. If the rest exceeds `limit`
    bytes, the stores that were not used for the longest time go. A store that a process has open
    or builds stays, and so does `keep`.
    """
    for leftover in folder.iterdir():
        if found := _LEFTOVER.search(leftover.name):
            with contextlib.suppress(UserError), store_lock(folder / found[1]):
                shutil.rmtree(leftover, ignore_errors=True)
    stores = [path for path in folder.iterdir() if _STORE.search(path.name) and path != keep]
    useful = [store for store in stores if not _is_obsolete(store) or not _removed(store)]
    taken = _size(keep)
    for store in sorted(useful, key=_last_use, reverse=True):
        size = _size(store)
        if taken + size <= limit or not _removed(store):
            taken += size


def _digest(source: Path) -> str:
    """What tells a store from those of other files, and of other states of the same file."""
    found = source.stat()
    key = f"{source.resolve()}\n{found.st_size}\n{found.st_mtime_ns}\n{found.st_ino}"
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _limit() -> float:
    """Bytes that the cache may hold."""
    text = os.environ.get("CMGEMS_CACHE_GB", str(_LIMIT_GB))
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise UserError(f"CMGEMS_CACHE_GB is {text!r}; wanted: gigabytes, such as {_LIMIT_GB}")
    return 1e9 * limit


def _opened(store: Path) -> Genome | None:
    """The genome of a store; None if it is not there, or damaged, and has to be built."""
    try:
        _hold(store)
        return open_genome(store)
    except UserError:
        return None


def _hold(store: Path) -> None:
    """Keep a store, if it is there, from being removed while this process lives."""
    with contextlib.suppress(OSError):  # not there; or a file system without locks
        while True:
            manifest = os.open(store / MANIFEST, os.O_RDONLY)
            fcntl.flock(manifest, fcntl.LOCK_SH)
            if is_same_file(store / MANIFEST, manifest):
                break
            os.close(manifest)  # it was removed or built again while we waited
        if store in _held:
            os.close(_held[store])
        _held[store] = manifest
        os.utime(store)  # its last use


def let_go() -> None:
    """Let others remove the stores that this process has opened."""
    while _held:
        os.close(_held.popitem()[1])


def _last_use(store: Path) -> float:
    return store.stat().st_mtime


def _size(store: Path) -> int:
    return sum(path.stat().st_size for path in store.rglob("*") if path.is_file())


def _is_obsolete(store: Path) -> bool:
    """Whether no source leads to this store any more."""
    try:
        source = Path(json.loads((store / MANIFEST).read_bytes())["sources"][0]["path"])
    except (OSError, ValueError, LookupError, TypeError):
        return True  # damaged; it would be built again
    try:
        return _digest(source) != _STORE.search(store.name)[1]
    except (FileNotFoundError, NotADirectoryError):
        return time.time() - _last_use(store) > _WITHOUT_SOURCE
    except OSError:
        return False


def _removed(store: Path) -> bool:
    """Remove a store unless somebody uses or builds it; returns whether it is gone."""
    old = store.with_name(f".{store.name}.old")
    with contextlib.suppress(UserError, OSError), store_lock(store):
        with open(store / MANIFEST, "rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(store, old)
        shutil.rmtree(old, ignore_errors=True)
    return not store.exists()
