"""Names of contigs: which meet, and where intervals are placed."""

import numpy as np
import pytest
from helpers.genome_files import build

from cmgems.cli import main
from cmgems.errors import UserError
from cmgems.genome.annotation.regions import place_regions
from cmgems.genome.names import ContigNames, are_same
from cmgems.genome.region import parse_region


@pytest.mark.parametrize(
    "names",
    [
        ("20", "chr20", "Chr20", "CHR20", "NC_000020.10"),
        ("1", "chr1", "NC_000001.11"),
        ("X", "chrX", "NC_000023.10"),
        ("Y", "chrY", "NC_000024.9"),
        ("MT", "chrM", "M", "chrMT", "NC_012920.1"),
        ("hg19/20", "hg19/chr20", "hg19/NC_000020.10"),
    ],
)
def test_names_of_one_contig_meet(names):
    assert all(are_same(a, b) for a in names for b in names)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("20", "2"),
        ("chr2", "NC_000020.10"),
        ("NC_000020.10", "NC_000020.11"),  # GRCh37 and GRCh38
        ("NC_000120.1", "20"),
        ("NC_000067.7", "67"),  # mouse
        ("hg19/NC_000020.10", "hg19/NC_000020.11"),
        ("hg19/chr20", "hg38/chr20"),
        ("hg19/chr20", "chr20"),
        ("x", "X"),
        ("chr", ""),
        ("chrUn_1", "1"),
    ],
)
def test_others_do_not(a, b):
    assert not are_same(a, b)
    assert not are_same(b, a)


def test_contigs_are_found_by_any_name(tmp_path):
    genome = build(tmp_path, b">chr1\nACGTA\n>NC_000002.11\nGGGTT\n>scaffold\nCCCC\n")
    names = ContigNames(genome)
    for name, start, number in (("1", 1, 0), ("chr2", 2, 1), ("2", 0, 1), ("scaffold", 0, 2)):
        placed = names.place(name, start, start + 3)
        assert (placed.contig, placed.start, placed.end, placed.offset) == (
            genome.contigs[number], start, start + 3, 0,
        )  # fmt: skip
    for name, interval, message in (
        ("3", (0, 1), "g has no contig 3, it has chr1, NC_000002.11, scaffold"),
        ("NC_000002.12", (0, 1), "g has no contig NC_000002.12"),
        ("2", (3, 6), "g has bases 1 to 5 of 2, found 4 to 6"),
    ):
        with pytest.raises(UserError, match=message):
            names.place(name, *interval)
    with pytest.raises(UserError, match="region: 3:1-2 is not in g, which has chr1 "):
        parse_region(genome, "3:1-2")
    assert parse_region(genome, "chr2").name == "chr2:1-5"


def test_an_exact_name_comes_first_and_two_others_are_ambiguous(tmp_path):
    genome = build(tmp_path, b">chr1\nACGTA\n>NC_000001.10\nGGGTT\n")
    assert ContigNames(genome).place("NC_000001.10", 0, 5).contig == genome.contigs[1]
    with pytest.raises(UserError, match=r"has both chr1 and NC_000001\.10, wanted one of these"):
        ContigNames(genome).place("1", 0, 5)


def test_pieces_of_a_chromosome_have_its_coordinates(tmp_path):
    genome = build(tmp_path, b">20:11-15\nACGTA\n>20:21-26\nGGGTTT\n")
    names = ContigNames(genome)
    assert names.place("chr20", 10, 15)[1:] == (0, 5, 10)
    assert names.place("NC_000020.10", 22, 26) == (genome.contigs[1], 2, 6, 20)
    assert names.place("20:21-26", 2, 6) == (genome.contigs[1], 2, 6, 0)
    with pytest.raises(UserError, match="has bases 11 to 15 of 20, found 14 to 21"):
        names.place("20", 13, 21)
    with pytest.raises(UserError, match="region: chr20 is 2 pieces in g, wanted one such as 20:11"):
        parse_region(genome, "chr20")
    held_out = place_regions(genome, ["NC_000020.10"], "data.test_contigs")
    assert [part.tolist() for part in held_out] == [[0, 6], [5, 12]]
    assert parse_region(genome, "20:21-26").name == "20:21-26"
    assert parse_region(genome, "20:21-26:1-2").name == "20:21-26:1-2"


def test_the_sample_answers_to_its_genomic_coordinates(genome, capsys):
    """Bases 45,000,001 to 45,000,006 of chromosome 20 of GRCh37, by each of its names."""
    wanted = genome.codes[1_000_000:1_000_006]
    for name in ("20", "chr20", "NC_000020.10"):
        assert parse_region(genome, name).name == f"{name}:44,000,001-48,000,000"
        placed = ContigNames(genome).place(name, 45_000_000, 45_000_006)
        assert np.array_equal(genome.codes[placed.start : placed.end], wanted)
    assert main(["pmi", "sample", "--k", "3", "--track", "NC_000020.10:45,000,001-45,000,003"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert lines[0].split("\t")[:2] == ["NC_000020.10", "45000000"]
    assert lines[-1].split("\t")[2] == "45000003"
