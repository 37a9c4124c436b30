"""Trials of the soak with damaged inputs: each is read, or refused in one line."""

import gzip
import hashlib
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from soak_outcomes import HELD, LOST, SILENT, TRACEBACK, Trial

from cmgems.config.loading import dump
from cmgems.errors import UserError
from cmgems.genome.annotation.variants import read_variants
from cmgems.genome.formats.reader import read_chunks
from cmgems.genome.genome import build_genome, open_genome
from cmgems.genome.store import CODES, MANIFEST
from cmgems.runs.experiment import load
from cmgems.runs.io import SafeCheckpoints, read_checkpoint
from cmgems.sweeps.config import read_sweep
from cmgems.tasks.readers import ReadOptions, read_examples

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
HOSTILE = [b"\0", b"\xff", b">", b"\n", b"\r", b"\t", b" ", b'"', b"${", b"&a", b"*a", b"!!"]
HOSTILE += [b"[", b"{", b"-", b"9" * 40]


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


def twobit_bytes(rng: np.random.Generator) -> bytes:
    """One sequence, `c0`, with a block of N."""
    bases = 300
    head = struct.pack("<4IB2sI", 0x1A412743, 0, 1, 0, 2, b"c0", 16 + 1 + 2 + 4)
    body = struct.pack("<6I", bases, 1, 10, 5, 0, 0)
    return head + body + rng.integers(0, 256, bases // 4, np.uint8).tobytes()


def genbank_text(rng: np.random.Generator) -> bytes:
    (sequence,) = sequences(rng, 1, 120)
    rows = [
        f"{at + 1:>9} " + " ".join(sequence[i : i + 10] for i in range(at, at + 60, 10))
        for at in (0, 60)
    ]
    head = "LOCUS       C0         120 bp    DNA     linear   UNK\nACCESSION   C0\nORIGIN\n"
    return (head + "\n".join(rows).lower() + "\n//\n").encode()


def table_text(rng: np.random.Generator) -> bytes:
    rows = [f"{s},{n % 2}\n" for n, s in enumerate(sequences(rng, 6, 40))]
    return ("sequence,label\n" + "".join(rows)).encode()


def named_fasta_text(rng: np.random.Generator) -> bytes:
    named = enumerate(sequences(rng, 6, 40))
    return "".join(f">s{n}|{n % 2}\n{s}\n" for n, s in named).encode()


def vcf_text(rng: np.random.Generator) -> bytes:
    rows = [f"chr20\t{n + 1}\trs{n}\tA\tC,G\t.\tPASS\tAC={n}\n" for n in range(5)]
    head = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    return (head + "".join(rows)).encode()


def read_sequence_file(path: Path, original: bytes) -> bool:
    for _ in read_chunks(path):
        continue
    return False


def read_labelled(format: str) -> Callable[[Path, bytes], bool]:
    def read(path: Path, original: bytes) -> bool:
        read_examples(format, [path], ReadOptions("binary", ("0", "1")))
        return False

    return read


def read_variant_file(path: Path, original: bytes) -> bool:
    for _ in read_variants(path):
        continue
    return False


def read_experiment(path: Path, original: bytes) -> bool:
    load(path)
    return False


def read_sweep_file(path: Path, original: bytes) -> bool:
    read_sweep(path, [])
    return False


def read_saved(path: Path, original: bytes) -> bool:
    """Next to the digest of the original: whatever differs from it is refused."""
    Path(f"{path}.sha256").write_text(f"{hashlib.sha256(original).hexdigest()}  {path.name}\n")
    read_checkpoint(path)
    return path.read_bytes() != original


def read_forged(path: Path, original: bytes) -> bool:
    """Next to a digest that fits, as somebody makes it who means harm."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    Path(f"{path}.sha256").write_text(f"{digest}  {path.name}\n")
    read_checkpoint(path)
    return False


def read_store(file: str) -> Callable[[Path, bytes], bool]:
    """A store, one of whose files is the input; the other one is as it was built."""

    def read(path: Path, original: bytes) -> bool:
        os.replace(path, path.parent / "store" / file)
        found, wanted = open_genome(path.parent / "store"), open_genome(path.parent / "whole")
        same = found.sha256 == wanted.sha256 and found.contigs == wanted.contigs
        return not (same and np.array_equal(found.codes, wanted.codes))

    return read


TEXTS: dict[str, Callable[[np.random.Generator], bytes]] = {
    "fasta": fasta_text,
    "twobit": twobit_bytes,
    "genbank": genbank_text,
    "labelled table": table_text,
    "labelled fasta": named_fasta_text,
    "variants": vcf_text,
}


class Kind(NamedTuple):
    ending: str  # of the file's name
    read: Callable[[Path, bytes], bool]  # whether damage was taken for the original
    count: int  # inputs of a trial, so that trials of all kinds take about as long


KINDS = {
    "fasta": Kind(".fa", read_sequence_file, 500),
    "packed fasta": Kind(".fa.gz", read_sequence_file, 1000),
    "twobit": Kind(".2bit", read_sequence_file, 1000),
    "genbank": Kind(".gb", read_sequence_file, 100),
    "labelled table": Kind(".csv", read_labelled("table"), 1000),
    "labelled fasta": Kind(".fa", read_labelled("fasta_header"), 1000),
    "variants": Kind(".vcf", read_variant_file, 1000),
    "packed variants": Kind(".vcf.gz", read_variant_file, 1000),
    "experiment": Kind(".yaml", read_experiment, 100),
    "sweep": Kind(".yaml", read_sweep_file, 200),
    "manifest": Kind(".json", read_store(MANIFEST), 500),
    "codes": Kind(".u8", read_store(CODES), 1000),
    "checkpoint": Kind(".ckpt", read_saved, 1000),
    "forged checkpoint": Kind(".ckpt", read_forged, 1000),
}


def make_input(kind: str, rng: np.random.Generator, folder: Path) -> bytes:
    """An input of this kind that is as it should be."""
    if kind in ("manifest", "codes"):
        (folder / "s.fa").write_bytes(fasta_text(rng))
        for name in ("store", "whole"):
            store = build_genome([folder / "s.fa"], folder / name, progress=False).path
        return (store / (MANIFEST if kind == "manifest" else CODES)).read_bytes()
    if "checkpoint" in kind:
        saver = SafeCheckpoints({"seed": 0})
        saver.save_checkpoint(small_state(rng), folder / "whole.ckpt")
        return (folder / "whole.ckpt").read_bytes()
    if kind == "experiment":
        return dump(load(EXPERIMENTS / "pretrain/cm_gems.yaml")).encode()
    if kind == "sweep":
        return (EXPERIMENTS / "sweep/maskings.yaml").read_bytes()
    text = TEXTS[kind.removeprefix("packed ")](rng)
    return gzip.compress(text) if kind.startswith("packed ") else text


def small_state(rng: np.random.Generator) -> dict[str, Any]:
    """The parts of a checkpoint, at a size of kilobytes."""
    weights = {f"encoder.{n}": torch.from_numpy(rng.normal(size=(4, 4))) for n in range(3)}
    state = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3}]}
    return {
        "state_dict": weights,
        "callbacks": {"Curriculum": {"stage": 1}},
        "global_step": 3,
        "optimizer_states": [state],
    }


def mutated(number: int, rng: np.random.Generator, folder: Path, scale: float = 1) -> Trial:
    """Damaged inputs of one kind, written to memory where the machine allows that."""
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=shared) as place:
        return try_kind(list(KINDS)[number % len(KINDS)], rng, Path(place), folder, scale)


def try_kind(kind: str, rng: np.random.Generator, place: Path, folder: Path, scale: float) -> Trial:
    ending, read, count = KINDS[kind]
    count = round(count * scale)
    original, path = make_input(kind, rng, place), place / f"input{ending}"
    for _ in range(count):
        damaged = mutate(rng, original)
        path.write_bytes(damaged)
        try:
            if read(path, original):
                trial = Trial(SILENT, f"{kind}: damage was not seen", count)
                return keep(damaged, path.name, folder, trial)
        except UserError as error:
            text = str(error)
            # a config lists all that is wrong with it, a line each
            if not text.strip() or (kind not in ("experiment", "sweep") and "\n" in text):
                trial = Trial(LOST, f"{kind}: {text[:200]!r}", count)
                return keep(damaged, path.name, folder, trial)
        except Exception as error:
            note = f"{kind}: {type(error).__name__}: {error}"[:200]
            return keep(damaged, path.name, folder, Trial(TRACEBACK, note, count))
    return Trial(HELD, kind, count)


def keep(damaged: bytes, name: str, folder: Path, trial: Trial) -> Trial:
    """Write down an input that was not held, for whoever looks for the fault."""
    kept = folder.parent / "faults"
    kept.mkdir(exist_ok=True)
    path = kept / f"{len(os.listdir(kept))}-{name}"
    path.write_bytes(damaged)
    return trial._replace(note=f"{trial.note} (faults/{path.name})")
