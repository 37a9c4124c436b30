"""How fast genomes are read and counted, against a memory copy, Biopython, KMC and Jellyfish.

    python benchmarks/bench_pmi.py chr20.fa chrX.fa [--rounds 9] [--big BASES] [--only ROW]

The candidates of a group are measured in turn, round after round, so that other load on the
machine affects all of them; best and median wall time and the least processor time (of all threads
together) are printed, and their ratios to the first of the group. Everything is in the page cache
and compiled before the first round. KMC and Jellyfish (Debian packages kmc, jellyfish) are left out
where they are not installed. With --big, FASTA files of that size are made from the given ones (in
many lines, and in one line) and whole processes are compared on them (not Jellyfish, which takes
minutes). --only measures one group of rows: copy, fasta, pmi, gzip, kmc, big or memory (may be
given several times); `--only check` compares all counts of words of 1 to 10 bases with a slow
reference in plain NumPy.
"""

import argparse
import functools
import gzip
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cmgems.difficulty.counts import KmerCounts, count_chunks
from cmgems.difficulty.genome_counts import count_file_kmers
from cmgems.difficulty.pmi import pmi_table_from_counts
from cmgems.genome.alphabet import AMBIGUOUS
from cmgems.genome.formats import fasta_kernels
from cmgems.genome.formats.reader import read_chunks
from cmgems.utils.cores import available_cores

PMI = [sys.executable, "-m", "cmgems", "pmi", "--k", "10", "--threads", "2"]


def main() -> None:
    args, chosen = parse_arguments()
    chromosome, rounds = args.fasta[0], args.rounds
    print(f"{machine()}; {chromosome.name}, {chromosome.stat().st_size:,} bytes")
    print(f"load before the start: {os.getloadavg()[0]:.1f} (a quiet machine has less than 0.3)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        groups = {
            "copy": lambda: against_a_copy(chromosome, 3 * rounds),
            "fasta": lambda: from_the_file(chromosome, rounds),
            "pmi": lambda: all_counts(chromosome, rounds),
            "gzip": lambda: packed(chromosome, folder),
            "kmc": lambda: counters(chromosome, folder, rounds),
            "check": lambda: check(chromosome),
        }
        for row, group in groups.items():
            if row in chosen:
                group()
        if chosen & {"big", "memory"}:
            make_big(args.fasta, int(args.big), folder / "big.fa", folder / "line.fa")
        if "big" in chosen:
            whole_processes(folder, rounds)
        if "memory" in chosen:
            peaks([folder / "big.fa", folder / "line.fa", chromosome])


def parse_arguments() -> tuple[argparse.Namespace, set[str]]:
    """The arguments, and the groups of rows to measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("fasta", nargs="+", type=Path, help="FASTA files; all groups but big measure the first")
    add("--rounds", type=int, default=9, help="rounds of measurement (default 9)")
    add("--big", type=float, default=0, metavar="BASES", help="size of the large file, as 3e9")
    rows = ["copy", "fasta", "pmi", "gzip", "kmc", "big", "memory", "check"]
    add("--only", action="append", choices=rows, metavar="ROW", help=", ".join(rows))
    args = parser.parse_args()
    chosen = set(args.only or rows[:-1])
    if not args.big and chosen & {"big", "memory"}:
        if args.only:
            parser.error("--only big and --only memory want --big BASES")
        chosen -= {"big", "memory"}
    return args, chosen


def machine() -> str:
    """The processor, the number of cores and the version of Python."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    processor, python = (names or [platform.machine()])[0], platform.python_version()
    return f"{processor}, {available_cores()} cores, Python {python}"


def measure(title: str, candidates: dict[str, Callable[[], object]], rounds: int) -> None:
    """Run the candidates in turn; print wall and processor time and their ratios to the first."""
    for run in candidates.values() if rounds > 2 else ():
        run()  # into the page cache, and compiled
    walls: dict[str, list[float]] = {name: [] for name in candidates}
    busy: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            wall, processor = time.perf_counter(), processor_time()
            run()
            walls[name].append(time.perf_counter() - wall)
            busy[name].append(processor_time() - processor)
    print(f"\n{title} ({rounds} rounds)")
    print(f"  {'milliseconds':<46}     best   median processor | ratio of best, median, processor")
    for name in candidates:
        seconds = [min(walls[name]), statistics.median(walls[name]), min(busy[name])]
        if name == next(iter(candidates)):
            first = seconds
        times = " ".join(f"{1e3 * s:9.1f}" for s in seconds)
        ratios = " ".join(f"{a / b:8.2f}" for a, b in zip(seconds, first, strict=True))
        print(f"  {name:<44} {times} | {ratios}", flush=True)


def processor_time() -> float:
    """Seconds on a processor, of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def against_a_copy(path: Path, rounds: int) -> None:
    raw = np.frombuffer(path.read_bytes() + bytes(fasta_kernels.PAD), np.uint8)
    size = len(raw) - fasta_kernels.PAD
    codes = np.empty(len(raw), np.uint8)
    headers = np.empty((4096, fasta_kernels.HEADER_COLUMNS), np.int64)
    tally = np.empty(fasta_kernels.TALLY_FIELDS, np.int64)
    candidates = {
        "memory copy": lambda: np.copyto(codes, raw),
        "FASTA to codes, memory to memory, 1 thread": lambda: fasta_kernels.convert(
            raw, size, False, codes, headers, tally
        ),
    }
    measure("FASTA to base codes, against a memory copy", candidates, rounds)


def from_the_file(path: Path, rounds: int) -> None:
    candidates = {
        "FASTA to codes, from the file, 1 thread": lambda: read(path),
        "k = 6 counts, from the file, 1 thread": lambda: count(path, 6, 1),
        "Biopython SimpleFastaParser + table": lambda: biopython(path),
    }
    measure("FASTA to base codes and counts, against Biopython", candidates, rounds)


def all_counts(path: Path, rounds: int) -> None:
    candidates = {
        f"all counts 1..10 and both PMI for k = 6, {threads} threads": functools.partial(
            both_definitions, path, threads
        )
        for threads in (1, 2)
    }
    measure("All counts and both definitions", candidates, rounds)


def read(path: Path) -> None:
    for _ in read_chunks(path):
        pass


def count(path: Path, k: int, threads: int) -> KmerCounts:
    pieces = (piece.codes for piece in read_chunks(path))
    return count_chunks(pieces, k, threads=threads)


def biopython(path: Path) -> None:
    from Bio.SeqIO.FastaIO import SimpleFastaParser

    table = np.minimum(fasta_kernels.BYTE_CLASSES, AMBIGUOUS)
    with open(path) as handle:
        for _, sequence in SimpleFastaParser(handle):
            table[np.frombuffer(sequence.encode(), np.uint8)]


def both_definitions(path: Path, threads: int) -> None:
    counts = count(path, 10, threads)
    for definition in ("exact", "published"):
        pmi_table_from_counts(counts.up_to(6), definition)


def packed(path: Path, folder: Path) -> None:
    """The cost of gzip: unpacking with ISA-L, as cmgems does, and with zlib."""
    archive = folder / "packed.fa.gz"
    with open(path, "rb") as source, gzip.open(archive, "wb", 6) as target:
        shutil.copyfileobj(source, target, 1 << 20)

    def with_zlib() -> None:
        buffer = bytearray(1 << 21)
        with gzip.open(archive, "rb") as handle:
            while handle.readinto(buffer):
                pass

    candidates = {
        "FASTA to codes, from the plain file": lambda: read(path),
        "the same from gzip (ISA-L)": lambda: read(archive),
        "zlib, unpacking alone": with_zlib,
    }
    measure("gzip", candidates, 3)


def counters(path: Path, folder: Path, rounds: int) -> None:
    candidates: dict[str, Callable[[], object]] = {
        "k = 10 counts, from the file, 2 threads": lambda: count(path, 10, 2),
        "the same with the hash of the genome": lambda: count_file_kmers(path, 10, threads=2),
    }
    candidates |= {
        f"{name} (whole process)": functools.partial(quietly, command)
        for name, command in other_counters(path, folder).items()
    }
    measure("k = 10 counts from the file, against counters", candidates, rounds)


def other_counters(path: Path, folder: Path) -> dict[str, list]:
    """The commands of the counters that are installed."""
    kmc = ["kmc", "-k10", "-ci1", "-b", "-t2", "-fm", path, folder / "kmc", folder]
    jellyfish = ["jellyfish", "count", "-m10", "-s2M", "-t2", "-o", folder / "jellyfish", path]
    commands = {"KMC": kmc, "Jellyfish": jellyfish}
    return {name: command for name, command in commands.items() if shutil.which(command[0])}


def quietly(command: list) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def whole_processes(folder: Path, rounds: int) -> None:
    big, line = folder / "big.fa", folder / "line.fa"
    candidates = {"cmgems pmi --k 10 --threads 2": [*PMI, big]} | other_counters(big, folder)
    candidates.pop("Jellyfish", None)  # minutes per run
    runs = {name: functools.partial(quietly, command) for name, command in candidates.items()}
    measure(f"Whole processes, {big.stat().st_size:,} bytes of FASTA", runs, max(rounds // 3, 2))
    runs = {"cmgems pmi, one line": functools.partial(quietly, [*PMI, line])}
    measure(f"Whole process, {line.stat().st_size:,} bytes in one line", runs, 2)


def peaks(sources: list[Path]) -> None:
    print("\nPeak resident memory")
    for source in sources:
        print(f"  cmgems pmi --k 10 {source.name:<12} {peak([*PMI, source]) / 2**20:7.0f} MiB")


def check(path: Path) -> None:
    """Compare the counts of a file with those of plain NumPy, one length of words at a time."""
    values = np.full(256, 4, np.uint8)
    for value, letters in enumerate((b"Aa", b"TtUu", b"Cc", b"Gg")):
        values[list(letters)] = value
    expected = [np.zeros(4**k, np.int64) for k in range(1, 11)]
    for record in path.read_bytes().split(b">")[1:]:
        sequence = record.split(b"\n", 1)[1].translate(None, b"\r\n")
        codes = values[np.frombuffer(sequence, np.uint8)]
        for run in np.split(codes, np.flatnonzero(np.diff(codes > 3)) + 1):
            if len(run) and run[0] < 4:
                add_words(run, expected)
    tables = count_file_kmers(path, 10).tables
    for k in range(1, 11):
        equal = np.array_equal(tables[k - 1], expected[k - 1])
        print(f"  k = {k:<2}  {expected[k - 1].sum():,} words: {'equal' if equal else 'DIFFERENT'}")
        if not equal:
            sys.exit(1)


def add_words(run: np.ndarray, totals: list[np.ndarray]) -> None:
    """Add the words of a run of A, C, G and T to the counts of each length."""
    words = np.zeros(len(run) + 1, np.int64)
    for k, total in enumerate(totals, 1):
        words = 4 * words[: len(run) - k + 1] + run[k - 1 :]
        if not len(words):
            break
        total += np.bincount(words, minlength=4**k)


def make_big(parts: list[Path], bases: int, big: Path, line: Path) -> None:
    """Repeat the files, under new names, and once more as a single contig on a single line."""
    bodies = [part.read_bytes().split(b"\n", 1)[1] for part in parts]
    with open(big, "wb") as lines, open(line, "wb") as single:
        single.write(b">single\n")
        number = 0
        while lines.tell() < bases:
            body = bodies[number % len(bodies)]
            lines.write(b">contig%d\n" % number + body.rstrip(b"\n") + b"\n")
            single.write(body.replace(b"\n", b""))
            number += 1


def peak(command: list) -> int:
    """Peak resident memory of a command in bytes."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True,"
        "stdout=subprocess.DEVNULL); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    run = [sys.executable, "-c", code, *map(str, command)]
    return 1024 * int(subprocess.run(run, check=True, capture_output=True).stdout)


if __name__ == "__main__":
    main()
