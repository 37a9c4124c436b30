"""Mutated inputs: each is read as the slow reference reads it, or refused in one line.

CMGEMS_FAULTS says how many (default 2,000; `make test-faults` runs 20,000).
"""

import gzip
import os
import struct
import zlib

import numpy as np
import pytest
from helpers.genome_files import bgzip, build, contents
from helpers.paths import CASES
from references.fasta import Refused, reference_fasta, reference_twobit, twobit_bytes

from cmgems.difficulty.counts import count_words
from cmgems.difficulty.pmi import pmi_table_from_counts
from cmgems.difficulty.table_io import read_table, write_table
from cmgems.errors import UserError
from cmgems.genome.genome import open_genome

HOSTILE = [b"\0", b"\xff", b">", b"\n", b"\r", b"\r\n", b" ", b"-", b"*", b"@", b"N" * 70, b">x\n"]


def mutated(rng: np.random.Generator, data: bytes) -> bytes:
    """One to three of: flipped bit, changed byte, insertion, deletion, cut, doubling."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at, other = sorted(int(i) for i in rng.integers(0, len(changed) + 1, 2))
        kind = int(rng.integers(0, 6))
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1 and at < len(changed):
            changed[at] = int(rng.integers(0, 256))
        elif kind == 2:
            changed[at:at] = HOSTILE[int(rng.integers(0, len(HOSTILE)))]
        elif kind == 3:
            del changed[at : at + int(rng.integers(1, 80))]
        elif kind == 4 and rng.random() < 0.3:
            del changed[at:]
        else:
            changed[at:at] = changed[at : min(other, at + 200)]
    return bytes(changed)


def fasta(rng: np.random.Generator) -> bytes:
    width = int(rng.choice([11, 60, 64]))
    text = b""
    for number in range(int(rng.integers(1, 4))):
        letters = rng.choice(list(b"ACGTacgtN"), int(rng.integers(1, 900)))
        body = letters.astype(np.uint8).tobytes() + b"ACGT"
        lines = [body[i : i + width] for i in range(0, len(body), width)]
        text += b">c%d test\n" % number + b"\n".join(lines) + b"\n"
    return text


def expected_fasta(data: bytes):
    try:
        return reference_fasta(data)
    except Refused:
        return None


def expected_gzip(data: bytes):
    if not data.startswith(b"\x1f\x8b"):
        return expected_fasta(data)
    try:
        unpacked = gzip.decompress(data)
    except (OSError, EOFError, zlib.error, struct.error):
        return None
    return expected_fasta(unpacked)


def attempt(function, *arguments):
    """What a function returns, and the message of a refusal."""
    try:
        return function(*arguments), None
    except UserError as error:
        return None, str(error)


def read_contigs(tmp_path, data: bytes):
    """What a store of the file holds, or None where it is refused in one line."""
    genome, message = attempt(build, tmp_path, data)
    if message is None:
        return contents(genome)
    assert "\n" not in message
    assert message.startswith(str(tmp_path / "g.fa"))
    assert sorted(os.listdir(tmp_path)) in (["g.fa"], ["g.fa", "store"])
    return None


@pytest.mark.parametrize("part", range(4))
def test_mutated_fasta(part, tmp_path):
    rng = np.random.default_rng([part, 1])
    for _ in range(CASES // 8):
        data = mutated(rng, fasta(rng))
        assert read_contigs(tmp_path, data) == expected_fasta(data)


@pytest.mark.parametrize("packer", [gzip.compress, lambda data: bgzip(data, 300)])
def test_mutated_gzip(packer, tmp_path):
    rng = np.random.default_rng(2)
    for _ in range(CASES // 16):
        data = mutated(rng, packer(fasta(rng)))
        contigs = read_contigs(tmp_path, data)
        if contigs is not None:
            # stricter than Python's gzip where it ignores what follows the stream: never laxer
            assert contigs == expected_gzip(data)


def test_mutated_2bit(tmp_path):
    rng = np.random.default_rng(3)
    for _ in range(CASES // 4):
        written = [(f"c{i}", rng.integers(0, 5, 50 + 100 * i).tolist()) for i in range(3)]
        data = mutated(rng, twobit_bytes(written))
        contigs = read_contigs(tmp_path, data)
        if contigs is not None:
            expected = reference_twobit if data[0] != ord(">") else reference_fasta
            assert contigs == expected(data)


def test_mutated_stores(tmp_path):
    rng = np.random.default_rng(4)
    genome = build(tmp_path, b">one\n" + b"ACGTNACGGT" * 50 + b"\n>two\nACGT\n")
    whole = contents(genome)
    refused = 0
    for case in range(CASES // 4):
        path = genome.path / ("codes.u8", "genome.json")[case % 2]
        intact = path.read_bytes()
        path.write_bytes(mutated(rng, intact))
        again, message = attempt(open_genome, genome.path)
        if message is None:  # the mutation changed nothing that counts
            assert contents(again) == whole
            assert (again.contigs, again.sha256) == (genome.contigs, genome.sha256)
        else:
            refused += 1
            assert "\n" not in message
            assert f"build it again: cmgems genome SOURCE --out {genome.path}" in message
        path.write_bytes(intact)
    assert refused > CASES // 5
    assert contents(open_genome(genome.path)) == whole


def test_mutated_tables(tmp_path):
    rng = np.random.default_rng(5)
    path = tmp_path / "t.tsv"
    codes = rng.integers(0, 4, 4000, dtype=np.uint8)
    write_table(pmi_table_from_counts(count_words(codes, 2), min_count=30), path)
    intact = path.read_bytes()
    refused = 0
    for _ in range(CASES // 4):
        path.write_bytes(mutated(rng, intact))
        table, message = attempt(read_table, path, 2)
        if message is None:
            assert sorted(table.rank.tolist()) == list(range(1, 17))
        else:
            refused += 1
            assert "\n" not in message
            assert message.startswith(f"{path}: ")
    assert refused > CASES // 10
