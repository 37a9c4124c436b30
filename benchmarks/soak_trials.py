"""Trials of the soak without runs: damaged inputs, and kills while stores are written."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from soak_processes import Child, die_at_operation, run

from cmgems.config.loading import dump
from cmgems.errors import UserError
from cmgems.genome.annotation.variants import read_variants
from cmgems.genome.genome import build_genome, open_genome
from cmgems.genome.store import CODES, MANIFEST, read_manifest
from cmgems.runs.experiment import load
from cmgems.runs.io import read_checkpoint
from cmgems.sweeps.config import read_sweep
from cmgems.tasks.readers import ReadOptions, read_examples

HELD, LOST, SILENT, TRACEBACK = "held", "lost", "silent", "traceback"
HOSTILE = [
    b"\0",
    b"\xff",
    b">",
    b"\n",
    b"\r",
    b"\t",
    b" ",
    b'"',
    b"${",
    b"&a",
    b"*a",
    b"!!",
    b"[",
    b"{",
    b"-",
    b"9" * 40,
]
MUTATIONS = 200  # per trial


class Trial(NamedTuple):
    outcome: str  # HELD, LOST, SILENT or TRACEBACK
    note: str
    count: int = 1  # inputs that were tried


def mutate(rng: np.random.Generator, data: bytes) -> bytes:
    """One to three changes: a flipped bit, an insertion, a deletion, a doubling, a cut."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at, other = sorted(int(i) for i in rng.integers(0, len(changed) + 1, 2))
        kind = rng.integers(0, 5)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            changed[at:at] = HOSTILE[int(rng.integers(0, len(HOSTILE)))]
        elif kind == 2:
            del changed[at : at + int(rng.integers(1, 60))]
        elif kind == 3:
            changed[at:at] = changed[at : min(other, at + 200)]
        elif rng.random() < 0.3:
            del changed[at:]
    return bytes(changed)


def sequences(rng: np.random.Generator, count: int = 3, bases: int = 300) -> list[str]:
    return ["".join(rng.choice(list("ACGT"), bases)) for _ in range(count)]


def fasta_text(rng: np.random.Generator) -> bytes:
    return "".join(f">c{n}\n{s}\n" for n, s in enumerate(sequences(rng))).encode()


def table_text(rng: np.random.Generator) -> bytes:
    rows = [f"{s},{n % 2}\n" for n, s in enumerate(sequences(rng, 6, 40))]
    return ("sequence,label\n" + "".join(rows)).encode()


def vcf_text(rng: np.random.Generator) -> bytes:
    rows = [f"chr20\t{n + 1}\trs{n}\tA\tC,G\t.\tPASS\tAC={n}\n" for n in range(5)]
    head = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    return (head + "".join(rows)).encode()


def read_mutated(kind: str, path: Path, original: bytes) -> bool:
    """Read a file of this kind; whether content that differs was taken for the original."""
    if kind == "sequences":
        genome = build_genome([path], path.with_suffix(".store"), progress=False)
        shutil.rmtree(genome.path)
    elif kind == "labelled":
        read_examples("table", [path], ReadOptions("binary", ("0", "1")))
    elif kind == "variants":
        list(read_variants(path))
    elif kind == "experiment":
        load(path)
    elif kind == "sweep":
        read_sweep(path, [])
    else:
        read_checkpoint(path)
        return path.read_bytes() != original
    return False


def seed_inputs(rng: np.random.Generator, folder: Path) -> dict[str, bytes]:
    """An input of each kind that is as it should be."""
    experiments = Path(__file__).resolve().parent.parent / "experiments"
    inputs = {
        "sequences": fasta_text(rng),
        "labelled": table_text(rng),
        "variants": vcf_text(rng),
        "experiment": dump(load(experiments / "pretrain/cm_gems.yaml")).encode(),
        "sweep": (experiments / "sweep/maskings.yaml").read_bytes(),
    }
    checkpoint = folder.parent / "references/run/checkpoints/last.ckpt"
    if checkpoint.exists():
        inputs["checkpoint"] = checkpoint.read_bytes()
    return inputs


ENDINGS = {"sequences": ".fa", "labelled": ".csv", "variants": ".vcf", "checkpoint": ".ckpt"}


def mutated(number: int, rng: np.random.Generator, folder: Path, count: int = MUTATIONS) -> Trial:
    """Damaged inputs of one kind: each is read, or refused in one line."""
    inputs = seed_inputs(rng, folder)
    kind = list(inputs)[number % len(inputs)]
    original = inputs[kind]
    path = folder / f"input{ENDINGS.get(kind, '.yaml')}"
    if kind == "checkpoint":
        source = folder.parent / "references/run/checkpoints/last.ckpt.sha256"
        shutil.copy(source, f"{path}.sha256")
        count = min(count, 20)
    for _ in range(count):
        path.write_bytes(mutate(rng, original))
        try:
            if read_mutated(kind, path, original):
                return _keep(path, folder, Trial(SILENT, f"{kind}: damage was not seen", count))
        except UserError as error:
            text = str(error)
            if not text.strip() or (kind not in ("experiment", "sweep") and "\n" in text):
                return _keep(path, folder, Trial(LOST, f"{kind}: {text[:200]!r}", count))
        except Exception as error:
            note = f"{kind}: {type(error).__name__}: {error}"[:200]
            return _keep(path, folder, Trial(TRACEBACK, note, count))
    return Trial(HELD, kind, count)


def _keep(path: Path, folder: Path, trial: Trial) -> Trial:
    """Copy an input that was not held, for whoever looks for the fault."""
    kept = folder.parent / "faults"
    kept.mkdir(exist_ok=True)
    name = f"{len(os.listdir(kept))}-{path.name}"
    shutil.copy(path, kept / name)
    return trial._replace(note=f"{trial.note} (faults/{name})")


def flipped_stores(number: int, rng: np.random.Generator, folder: Path) -> Trial:
    """A byte of a store is changed; `genome --check` finds every one."""
    (folder / "s.fa").write_bytes(fasta_text(rng))
    run(["genome", str(folder / "s.fa"), "--out", str(folder / "store")], folder / "log0")
    file = folder / "store" / random.Random(number).choice([CODES, MANIFEST])
    times = file.stat()
    data = bytearray(file.read_bytes())
    data[int(rng.integers(0, len(data)))] ^= 1 << int(rng.integers(0, 8))
    file.write_bytes(data)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    ended = run(["genome", "--check", str(folder / "store")], folder / "log")
    if ended.has_traceback:
        return Trial(TRACEBACK, f"{file.name}: {ended.last_line}")
    return Trial(HELD if ended.code == 2 else SILENT, f"{file.name}: code {ended.code}")


def stores(number: int, rng: np.random.Generator, folder: Path) -> Trial | None:
    """SIGKILL at the n-th change of a file while a store is built, then built again."""
    (folder / "s.fa").write_bytes(fasta_text(np.random.default_rng(0)))
    out, at = folder / "out" / "store", number + 1
    command = ["genome", str(folder / "s.fa"), "--out", str(out)]
    if run(command, folder / "log0", before=die_at_operation(at, out.parent)).code == 0:
        return None
    return _again(command, folder, lambda: open_genome(out).sha256, _sha(folder), f"operation {at}")


def caches(number: int, rng: np.random.Generator, folder: Path) -> Trial | None:
    """The same for a table of PMI that is computed through the cache."""
    (folder / "s.fa").write_bytes(fasta_text(np.random.default_rng(0)))
    cache, table, at = folder / "cache", folder / "cache" / "t.tsv", number + 1
    cache.mkdir()
    command = ["pmi", str(folder / "s.fa"), "--k", "3", "--min-count", "2", "--out", str(table)]
    die = die_at_operation(at, cache)

    def with_cache() -> None:
        os.environ["CMGEMS_CACHE"] = str(cache)

    def before() -> None:
        with_cache()
        die()

    if run(command, folder / "log0", before=before).code == 0:
        return None
    ended = run(command, folder / "log", before=with_cache)
    if ended.has_traceback or ended.code:
        return Trial(TRACEBACK if ended.has_traceback else LOST, ended.last_line)
    found = table.read_bytes()
    shutil.rmtree(cache)
    cache.mkdir()
    run(command, folder / "log", before=with_cache)
    same = found == table.read_bytes()
    return Trial(HELD if same else SILENT, f"operation {at} through the cache")


def exports(number: int, rng: np.random.Generator, folder: Path) -> Trial | None:
    """The same for an export: no folder, or the whole one."""
    source, at = folder.parent / "references/run", number + 1
    if not (source / "results.json").exists():
        return None  # the first trial with a run makes it
    out = folder / "out" / "model"
    command = ["export", str(source), str(out)]
    if run(command, folder / "log0", before=die_at_operation(at, out.parent)).code == 0:
        return None
    whole = folder / "model"
    run(["export", str(source), str(whole)], folder / "log1")
    wanted = {file.name: file.read_bytes() for file in whole.iterdir()}
    if not (out.exists() and any(out.iterdir())):  # else it appeared before the kill
        ended = run(command, folder / "log")
        if ended.has_traceback or ended.code:
            return Trial(TRACEBACK if ended.has_traceback else LOST, ended.last_line)
    found = {file.name: file.read_bytes() for file in out.iterdir()}
    found["README.md"] = found["README.md"].replace(b"out/model", b"model")  # names its folder
    return Trial(HELD if found == wanted else SILENT, f"operation {at} of an export")


def four_at_a_store(number: int, rng: np.random.Generator, folder: Path) -> Trial:
    """Four processes build one store: one builds it, or all one after the other."""
    (folder / "s.fa").write_bytes(fasta_text(np.random.default_rng(0)))
    command = ["genome", str(folder / "s.fa"), "--out", str(folder / "store")]
    children = [Child(command, folder / f"log{n}") for n in range(4)]
    for ended in [child.finish() for child in children]:
        if ended.has_traceback:
            return Trial(TRACEBACK, ended.last_line)
        if ended.code not in (0, 2):
            return Trial(LOST, f"code {ended.code}: {ended.last_line}")
    sha = read_manifest(folder / "store")["sha256"]
    return Trial(HELD if sha == _sha(folder) else SILENT, "four at one store")


def _sha(folder: Path) -> str:
    genome = build_genome([folder / "s.fa"], folder / "whole", progress=False)
    return genome.sha256


def _again(
    command: list[str], folder: Path, read: Callable[[], object], wanted: object, what: str
) -> Trial:
    """The command once more, after a kill: what is there then is what was wanted."""
    ended = run(command, folder / "log")
    if ended.has_traceback:
        return Trial(TRACEBACK, f"{what}: {ended.last_line}")
    if ended.code:
        return Trial(LOST, f"{what}: code {ended.code}, {ended.last_line}")
    return Trial(HELD if read() == wanted else SILENT, what)
