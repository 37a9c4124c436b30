"""Genome stores from every format."""

import gzip

import numpy as np
import pytest

from cmgems.errors import UserError
from cmgems.genome import build_genome, genome_for, open_genome


def store_of(tmp_path, data: bytes, name="g.fa"):
    source = tmp_path / name
    source.write_bytes(data)
    return build_genome([source], tmp_path / "store", progress=False)


def test_bases_names_and_counts(tmp_path):
    genome = store_of(tmp_path, b">one first\nACGT\nacgtNNRY\n>two\nTTTT")
    assert genome.codes.tolist() == [0, 2, 3, 1, 0, 2, 3, 1, 4, 4, 4, 4, 4, 1, 1, 1, 1]
    assert [(c.name, c.start, c.length, c.n_count, c.iupac_count) for c in genome.contigs] == [
        ("one", 0, 12, 4, 2),
        ("two", 13, 4, 0, 0),
    ]


def test_gzip_holds_what_the_plain_file_holds(tmp_path):
    data = b">x\n" + b"ACGTN\n" * 10_000
    plain = store_of(tmp_path, data)
    packed = tmp_path / "g.fa.gz"
    packed.write_bytes(gzip.compress(data))
    other = build_genome([packed], tmp_path / "other", progress=False)
    assert np.array_equal(plain.codes, other.codes)
    assert plain.sha256 == other.sha256


def test_the_sample_is_four_megabases_without_n(tmp_path, monkeypatch):
    monkeypatch.setenv("CMGEMS_CACHE", str(tmp_path))
    genome = genome_for("sample")
    assert genome.bases == len(genome.codes) == 4_000_000
    assert genome.n_count == 0


def test_a_flipped_base_is_noticed(tmp_path):
    genome = store_of(tmp_path, b">x\nACGTACGT\n")
    path = genome.path / "codes.u8"
    codes = bytearray(path.read_bytes())
    codes[3] ^= 1
    path.write_bytes(codes)
    with pytest.raises(UserError, match="damaged"):
        open_genome(genome.path)
