"""Soft-masked bases: from the case of the source, or from a file of repeats, one bit per base."""

import json

import numpy as np
import pytest
from helpers.genome_files import build

from cmgems.cli import main
from cmgems.errors import UserError
from cmgems.genome import store
from cmgems.genome.formats.base import pack_bits
from cmgems.genome.genome import open_genome
from cmgems.genome.soft_mask import SoftMaskWriter

FASTA = b">chr1\nACGTacgtnNacg\nTRr\n>chr2\nggGGtt\n"
#  codes:   ACGTacgtnNacgTRr - ggGGtt
MARKED = "0000111100111000" + "0" + "110011"


def bits(genome):
    return "".join(map(str, genome.soft_mask(0, len(genome.codes)).astype(int)))


def test_known_bases_in_lower_case(tmp_path, capsys):
    genome = build(tmp_path, FASTA)
    assert bits(genome) == MARKED
    assert genome.soft_masked == MARKED.count("1")
    for start in range(23):
        for end in range(start, 24):
            found = genome.soft_mask(start, end)
            assert "".join(map(str, found.astype(int))) == MARKED[start:end]
    out = str(tmp_path / "other")
    assert main(["genome", str(tmp_path / "g.fa"), "--out", out]) == 0
    assert "61.11 % soft-masked" in capsys.readouterr().out  # 11 of 18 known bases


def test_repeats_of_a_file_take_the_place_of_the_case(tmp_path, capsys):
    build(tmp_path, FASTA)
    bed, out = tmp_path / "r.bed", tmp_path / "other"
    bed.write_text("1\t2\t5\n1\t4\t10\n2\t5\t9\nchr9\t1\t2\n")
    given = ["genome", str(tmp_path / "g.fa"), "--out", str(out), "--repeats", str(bed)]
    assert main(given) == 0
    error = capsys.readouterr().err
    assert "of 4 intervals 1 reach beyond a contig's ends, 1 are on contigs that it has" in error
    genome = open_genome(out)
    assert bits(genome) == "0011111100000000" + "0" + "000001"
    assert genome.soft_masked == 7
    bed.write_text("chr9\t1\t2\n")
    assert main(given) == 2
    wanted = (
        "r.bed: of 1 intervals 1 are on contigs that it has not, the first is on chr9; wanted some "
        "in g, which has "
    )
    assert wanted in capsys.readouterr().err


def test_a_store_without_case_is_read_and_one_that_is_damaged_refused(tmp_path):
    genome = build(tmp_path, FASTA)
    mask, path = genome.path / "soft_mask.u1", genome.path / "genome.json"
    content = mask.read_bytes()
    mask.write_bytes(bytes(len(content)))
    with pytest.raises(UserError, match=r"soft_mask.u1: is damaged .*build it again"):
        open_genome(genome.path)
    mask.write_bytes(content)
    assert bits(open_genome(genome.path)) == MARKED  # another time, the same content
    old = {**json.loads(path.read_text()), "version": 2}
    del old["soft_mask"]
    path.write_text(json.dumps(old | {"checksum": store._checksum(old)}))
    mask.unlink()
    genome = open_genome(genome.path)
    assert genome.soft_masked is None
    with pytest.raises(UserError, match="was built without the case of its bases; build it again"):
        genome.soft_mask(0, 1)


def test_bits_are_packed_as_they_come(tmp_path):
    values = np.random.default_rng(0).integers(0, 2, 1000).astype(np.uint8)
    for cuts in ([], [1, 2, 3], [7, 64, 128, 500], list(range(13, 1000, 13))):
        for first in (0, 1):  # the first code is left out, or not
            with open(tmp_path / "bits", "wb") as handle:
                writer = SoftMaskWriter(handle)
                for number, part in enumerate(np.split(values, cuts)):
                    writer.add(pack_bits(part), first if number == 0 else 0, len(part))
                assert writer.finish()["bases"] == values[first:].sum()
            packed = np.frombuffer((tmp_path / "bits").read_bytes(), np.uint8)
            assert np.array_equal(packed, np.packbits(values[first:], bitorder="little"))
