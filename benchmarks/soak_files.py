"""Trials of the soak with stores, the cache and exports: kills, processes, changed files."""

import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from soak_inputs import fasta_text, sequences
from soak_outcomes import HELD, SILENT, TRACEBACK, Trial
from soak_processes import Child, die_at_operation, fault, run
from soak_runs import reference, reference_folder

from cmgems.errors import UserError
from cmgems.genome.genome import build_genome, open_genome
from cmgems.genome.store import CODES, MANIFEST, read_manifest


def stores(number: int, rng: np.random.Generator, folder: Path) -> Trial | None:
    """SIGKILL at the n-th change of a file while a store is built, then built again."""
    source = write_source(folder)
    out, at = folder / "out" / "store", number + 1
    command = ["genome", str(source), "--out", str(out)]
    if run(command, folder / "log0", before=die_at_operation(at, out.parent)).code == 0:
        return None
    return _again(
        command, folder, lambda: open_genome(out).sha256, _sha(source), f"operation {at} of a store"
    )


def caches(number: int, rng: np.random.Generator, folder: Path) -> Trial | None:
    """The same for a table of PMI, made of a store and counts that the cache keeps."""
    cache, table, at = folder / "cache", folder / "cache" / "t.tsv", number + 1
    cache.mkdir()
    command = ["pmi", "sample", "--k", "3", "--threads", "1", "--out", str(table)]
    die = die_at_operation(at, cache)

    def with_cache() -> None:
        os.environ["CMGEMS_CACHE"] = str(cache)

    def before() -> None:
        with_cache()
        die()

    if run(command, folder / "log0", before=before).code == 0:
        return None
    ended = run(command, folder / "log", before=with_cache)
    if (failed := fault(ended, f"operation {at} of a table")) is not None:
        return failed
    found = table.read_bytes()
    shutil.rmtree(cache)
    cache.mkdir()
    run(command, folder / "log", before=with_cache)
    same = found == table.read_bytes()
    return Trial(HELD if same else SILENT, f"operation {at} of a table through the cache")


def exports(number: int, rng: np.random.Generator, folder: Path) -> Trial | None:
    """The same for an export: no folder, or the whole one."""
    reference("plain", "single", folder)
    source, at = reference_folder("plain", "single", folder) / "run", number + 1
    out = folder / "out" / "model"
    command = ["export", str(source), str(out)]
    if run(command, folder / "log0", before=die_at_operation(at, out.parent)).code == 0:
        return None
    whole = folder / "model"
    run(["export", str(source), str(whole)], folder / "log1")
    wanted = {file.name: file.read_bytes() for file in whole.iterdir()}
    if not (out.exists() and any(out.iterdir())):  # else it appeared before the kill
        failed = fault(run(command, folder / "log"), f"operation {at} of an export")
        if failed is not None:
            return failed
    found = {file.name: file.read_bytes() for file in out.iterdir()}
    found["README.md"] = found["README.md"].replace(b"out/model", b"model")  # names its folder
    return Trial(HELD if found == wanted else SILENT, f"operation {at} of an export")


def flipped_stores(number: int, rng: np.random.Generator, folder: Path) -> Trial:
    """A byte of a store is changed; `genome --check` finds every one."""
    store = build_genome([write_source(folder)], folder / "store", progress=False).path
    file = store / random.Random(number).choice([CODES, MANIFEST])
    times = file.stat()
    data = bytearray(file.read_bytes())
    data[int(rng.integers(0, len(data)))] ^= 1 << int(rng.integers(0, 8))
    file.write_bytes(data)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    ended = run(["genome", "--check", str(store)], folder / "log")
    if ended.has_traceback:
        return Trial(TRACEBACK, f"{file.name}: {ended.last_line}")
    return Trial(HELD if ended.code == 2 else SILENT, f"{file.name}: code {ended.code}")


def four_at_a_store(number: int, rng: np.random.Generator, folder: Path) -> Trial:
    """Four processes build one store: one builds it, or all one after the other."""
    source = write_source(folder)
    command = ["genome", str(source), "--out", str(folder / "store")]
    children = [Child(command, folder / f"log{n}") for n in range(4)]
    for ended in [child.finish() for child in children]:
        if (failed := fault(ended, "four at one store", codes=(0, 2))) is not None:
            return failed
    same = read_manifest(folder / "store")["sha256"] == _sha(source)
    return Trial(HELD if same else SILENT, "four at one store")


CHANGES = ("overwritten", "replaced", "longer", "cut off", "removed")


def changed_sources(number: int, rng: np.random.Generator, folder: Path) -> Trial:
    """A source changes while a store is made of it: refused, or the store of one of the two."""
    kind = CHANGES[number % len(CHANGES)]
    before, after = (
        "".join(f">c{n}\n{s * 30_000}\n" for n, s in enumerate(sequences(rng))).encode()
        for _ in range(2)
    )
    source, other, out = folder / "s.fa", folder / "other.fa", folder / "store"
    source.write_bytes(before)
    other.write_bytes(after)
    known = {_sha(source), _sha(other)}
    seconds = rng.uniform(0, 0.2)

    def change() -> None:
        time.sleep(seconds)
        _change(kind, source, other, len(before) // 2, after)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).endswith(CODES) and arguments[2] & os.O_CREAT:
            threading.Thread(target=change).start()

    command = ["genome", str(source), "--out", str(out)]
    ended = run(command, folder / "log", before=lambda: sys.addaudithook(hook))
    if (failed := fault(ended, kind, codes=(0, 2))) is not None:
        return failed
    try:
        right = ended.code == 2 or open_genome(out).sha256 in known
    except UserError:  # it is found out when the store is opened: its source is another one
        right = True
    return Trial(HELD if right else SILENT, f"{kind}: code {ended.code}, {ended.last_line}")


def _change(kind: str, source: Path, other: Path, half: int, after: bytes) -> None:
    if kind == "overwritten":
        with open(source, "r+b") as handle:
            handle.write(after)
    elif kind == "replaced":
        os.replace(other, source)
    elif kind == "longer":
        with open(source, "ab") as handle:
            handle.write(after)
    elif kind == "cut off":
        os.truncate(source, half)
    else:
        source.unlink()


def write_source(folder: Path) -> Path:
    """Always the same small FASTA file."""
    path = folder / "s.fa"
    path.write_bytes(fasta_text(np.random.default_rng(0)))
    return path


def _sha(source: Path) -> str:
    return build_genome([source], source.with_name("whole"), progress=False).sha256


def _again(
    command: list[str], folder: Path, read: Callable[[], object], wanted: object, what: str
) -> Trial:
    """The command once more, after a kill: what is there then is what was wanted."""
    if (failed := fault(run(command, folder / "log"), what)) is not None:
        return failed
    return Trial(HELD if read() == wanted else SILENT, what)
