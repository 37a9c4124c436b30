"""Datasets of the registry on this machine: fetched, checked and kept in the folder of data."""

import hashlib
import os
import re
import shutil
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from zipfile import BadZipFile, ZipFile

from cmgems.downloads.http import download, read_text
from cmgems.downloads.registry import ALGORITHMS, Dataset, RemoteFile, find_dataset
from cmgems.errors import UserError
from cmgems.utils.cache_folder import cache_folder
from cmgems.utils.files import atomic_write, file_lock, fsync_folder
from cmgems.utils.outputs import name_output

DIGITS = {32: "md5", 64: "sha256"}  # digits of a checksum -> which it is
CHUNK = 1 << 20


class Source(NamedTuple):
    """A place that may have a file, and one that may have its checksum; empty for none."""

    place: str
    checksums: str


def data_folder() -> Path:
    """Where fetched files are; served as it is, it is what CMGEMS_MIRROR names."""
    return cache_folder() / "data"


def tasks_folder() -> Path:
    """The `tasks.root` of fetched tasks."""
    return data_folder() / "tasks"


def local_path(dataset: Dataset) -> Path:
    """What a dataset is used by: the file of a genome, the root folder of tasks."""
    return tasks_folder() if dataset.kind == "tasks" else data_folder() / dataset.files[0].path


def is_fetched(dataset: Dataset) -> bool:
    """Whether all its files are here."""
    return all((data_folder() / file.path).exists() for file in dataset.files)


def fetch(name: str, folder: Path | None = None) -> Path:
    """Make sure that a dataset is here.

    Parameters
    ----------
    name : of `cmgems.downloads.registry`
    folder : with the files, fetched by other means; None: they are fetched from $CMGEMS_MIRROR, if
        that is set, and from their publisher

    Returns
    -------
    Path
        See `local_path`.

    Raises
    ------
    UserError
        If there is no such dataset, or it cannot be had.
    """
    dataset = find_dataset(name)
    for file in dataset.files:
        target = data_folder() / file.path
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = target.with_name(f".{target.name}.lock")
        with file_lock(lock, f"{target}: another process fetches it", wait=True):
            if not target.exists():  # else it was fetched while we waited
                _fetch_file(dataset, file, target, folder)
    return local_path(dataset)


def _fetch_file(dataset: Dataset, file: RemoteFile, target: Path, folder: Path | None) -> None:
    stored = target.with_name(f"{target.name}.zip") if dataset.unpack else target
    part = stored.with_name(f".{stored.name}.part")
    sources = _folder_sources(file, stored, folder) if folder else _urls(file, stored)
    for number, source in enumerate(sources, 1):
        try:
            _obtain(file, source, part, f"{dataset.name}: {source.place} to {target}")
            break
        except UserError as error:
            if number == len(sources):
                remedy = "" if folder else f"; or `cmgems data get {dataset.name} --from FOLDER`"
                raise UserError(f"{error}{remedy}") from error
            print(f"{error}; another source follows", file=sys.stderr)
        except OSError as error:
            _remove(part)  # on a full disk its room is needed more
            name_output(error, stored, part)
            raise
    os.replace(part, stored)
    fsync_folder(stored.parent)
    _remove(part)
    if dataset.unpack:
        _unpack(stored, target)


def _urls(file: RemoteFile, stored: Path) -> list[Source]:
    """The mirror's and the publisher's addresses of a file."""
    sources = [Source(file.url, file.checksums_url)]
    if mirror := os.environ.get("CMGEMS_MIRROR"):
        if not mirror.startswith(("http://", "https://")):
            raise UserError(f"CMGEMS_MIRROR: found {mirror}, wanted an address http://...")
        url = f"{mirror.rstrip('/')}/{stored.relative_to(data_folder()).as_posix()}"
        sources.insert(0, Source(url, f"{url}.sha256"))
    return sources


def _folder_sources(file: RemoteFile, stored: Path, folder: Path) -> list[Source]:
    """The file in a user's folder: where a mirror has it, or by its name alone."""
    names = (stored.relative_to(data_folder()).as_posix(), stored.name, Path(file.url).name)
    for name in names:
        if (path := folder / name).is_file():
            return [Source(str(path), f"{path}.sha256")]
    raise UserError(f"--from: {folder} has no {names[0]} or {names[1]}, wanted the file")


def _obtain(file: RemoteFile, source: Source, part: Path, label: str) -> None:
    """Let `part` be the whole, checked file, with its sha256 in a file next to where it will be."""
    expected = file.checksum or _published_checksum(source, Path(file.url).name)
    if source.place.startswith(("http://", "https://")):
        download(source.place, part, label)
    else:
        print(label, file=sys.stderr)
        shutil.copyfile(source.place, part)
    found = dict(zip(ALGORITHMS, _digests(part), strict=True))
    if expected is not None and found[expected[0]] != expected[1]:
        kind, digits = expected
        _remove(part)
        raise UserError(
            f"{source.place}: its {kind} is {found[kind]}, wanted {digits}; what came was removed"
        )
    checked = f"{expected[0]} as published" if expected else "no checksum is known to compare with"
    print(f"  {checked}; sha256 {found['sha256']}", file=sys.stderr)
    stored = part.name.removeprefix(".").removesuffix(".part")
    with atomic_write(part.with_name(f"{stored}.sha256")) as handle:
        handle.write(f"{found['sha256']}  {stored}\n")


def _published_checksum(source: Source, name: str) -> tuple[str, str] | None:
    """The checksum of a file in a list of lines `CHECKSUM  NAME`; None where there is none."""
    if not source.checksums:
        return None
    try:
        if source.checksums.startswith(("http://", "https://")):
            text = read_text(source.checksums)
        else:
            text = Path(source.checksums).read_text(encoding="utf-8")
    except (UserError, OSError):
        return None
    own = Path(source.place).name
    for digits, entry in re.findall(r"^([0-9a-f]{32,64})\s+\*?(?:\./)?(\S+)\s*$", text, re.M):
        if len(digits) in DIGITS and entry in (name, own):
            return DIGITS[len(digits)], digits
    return None


def _digests(path: Path) -> Iterator[str]:
    """The digests of a file, of each of ALGORITHMS, in one pass."""
    hashes = [hashlib.new(kind, usedforsecurity=False) for kind in ALGORITHMS]
    with open(path, "rb") as handle:
        while chunk := handle.read(CHUNK):
            for digest in hashes:
                digest.update(chunk)
    return (digest.hexdigest() for digest in hashes)


def _unpack(archive: Path, target: Path) -> None:
    """Let the folder of an archive that is called like `target` be there; remove the archive."""
    try:
        with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
            with ZipFile(archive) as packed:
                packed.extractall(temporary)  # names that lead out of the folder are mended
            if not (folder := Path(temporary) / target.name).is_dir():
                names = ", ".join(sorted(os.listdir(temporary))[:5])
                raise UserError(f"{archive}: has {names}, wanted the folder {target.name}")
            os.rename(folder, target)
    except (BadZipFile, EOFError, RuntimeError, zlib.error) as error:
        raise UserError(f"{archive}: not a zip archive ({error}); it was removed") from error
    finally:
        archive.unlink(missing_ok=True)


def _remove(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_suffix(".tag").unlink(missing_ok=True)
