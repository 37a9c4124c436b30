"""Genome stores from every format, and the sample."""

import gzip
import io

import numpy as np
import pytest
from Bio import SeqIO
from Bio.Seq import Seq
from Bio.SeqRecord import SeqRecord
from helpers.genome_files import bgzip, build, contents
from references.fasta import reference_fasta, reference_twobit, twobit_bytes

from cmgems.difficulty.counts import count_kmers
from cmgems.errors import UserError
from cmgems.genome.cache import load_genome, sample_path
from cmgems.genome.genome import Contig, build_genome, genome_name

FASTA = b">one first\nACGT\nacgtNNRY\n>two\nTTTT"


def flat_file(flavour: str, *sequences: str) -> bytes:
    """A GenBank or EMBL file, as Biopython writes it."""
    handle = io.StringIO()
    for number, letters in enumerate(sequences, 1):
        record = SeqRecord(Seq(letters), id=f"C{number}.1", name=f"C{number}")
        record.annotations["molecule_type"] = "DNA"
        SeqIO.write([record], handle, flavour)
    return handle.getvalue().encode()


def test_bases_names_and_counts(tmp_path):
    genome = build(tmp_path, FASTA)
    assert genome.codes.tolist() == [0, 2, 3, 1, 0, 2, 3, 1, 4, 4, 4, 4, 4, 1, 1, 1, 1]
    assert genome.contigs == (Contig("one", 0, 12, 4, 2), Contig("two", 13, 4, 0, 0))
    assert (genome.name, genome.bases, genome.n_count) == ("g", 16, 4)
    assert genome.contig("two") is genome.contigs[1]
    with pytest.raises(UserError, match="has no contig 'chr1'; it has one, two"):
        genome.contig("chr1")


@pytest.mark.parametrize("packer", [gzip.compress, bgzip, lambda d: bgzip(d, 7)])
def test_gzip_holds_what_the_plain_file_holds(packer, tmp_path):
    data = FASTA + b"\n>three\n" + b"ACGTNACGTA\n" * 300_000  # more than a chunk
    plain = build(tmp_path, data)
    packed = build(tmp_path, packer(data), "g.fa.gz")
    assert np.array_equal(plain.codes, packed.codes)
    assert (plain.sha256, plain.contigs) == (packed.sha256, packed.contigs)


@pytest.mark.parametrize("order", ["<", ">"])
def test_2bit_of_either_byte_order(order, tmp_path):
    expected = reference_fasta(FASTA)
    genome = build(tmp_path, twobit_bytes(expected, order), "g.2bit")
    assert contents(genome) == expected
    assert [c.n_count for c in genome.contigs] == [4, 0]


@pytest.mark.parametrize("flavour", ["genbank", "embl"])
def test_genbank_and_embl(flavour, tmp_path):
    sequences = "ACGTNNRYacgt" * 30, "GGCC"
    expected = reference_fasta(b">C1.1\n%b\n>C2.1\n%b\n" % tuple(s.encode() for s in sequences))
    data = flat_file(flavour, *sequences)
    for name, packed in (("g.gb", data), ("g.gb.gz", gzip.compress(data))):
        genome = build(tmp_path, packed, name)
        assert contents(genome) == expected
        assert [c.iupac_count for c in genome.contigs] == [60, 0]


def test_the_last_record_of_genbank_may_lack_its_end_marker(tmp_path):
    data = flat_file("genbank", "ACGTNNRYacgt" * 30, "GGCC" * 20)
    whole = contents(build(tmp_path, data))
    for ending in (b"", b"\n", b"\r\n\n  \n"):
        assert data.endswith(b"\n//\n")
        assert contents(build(tmp_path, data[:-4] + ending)) == whole
    assert contents(build(tmp_path, data + b"\n \n")) == whole


@pytest.mark.parametrize("flavour", ["genbank", "embl"])
def test_a_flat_file_that_was_cut_is_refused(flavour, tmp_path):
    data = flat_file(flavour, "ACGTACGTAC" * 30)
    for cut in range(20, len(data) - 4, 7):
        with pytest.raises(UserError) as caught:
            build(tmp_path, data[:cut])
        assert "\n" not in str(caught.value)


def test_genbank_without_sequence_and_with_protein(tmp_path):
    data = flat_file("genbank", "ACGTACGTAC" * 30)
    annotation = data[: data.index(b"ORIGIN")] + b"CONTIG      join(X:1..300)\n//\n"
    with pytest.raises(UserError, match=r"record 1 \(C1\.1\) has annotation but no sequence"):
        build(tmp_path, annotation)
    with pytest.raises(UserError, match=r"record 1 \(C1\.1\): base 7 is 'L'; wanted: A C G T"):
        build(tmp_path, data.replace(b"acgtacgtac", b"acgtaclmkl"))


def test_a_gap_of_chunks_does_not_join_contigs(tmp_path):
    genome = build(tmp_path, b">a\nAAAA\n>b\nTTTT\n")
    assert count_kmers(genome.codes, 2).tolist() == [3, 0, 0, 0, 0, 3] + [0] * 10


def test_the_sample_is_what_its_note_says(tmp_path, monkeypatch):
    monkeypatch.setenv("CMGEMS_CACHE", str(tmp_path))
    genome = load_genome("sample")
    assert genome.contigs == (Contig("20:44000001-48000000", 0, 4_000_000, 0, 0),)
    assert len(genome.codes) == 4_000_000
    ((name, codes),) = reference_twobit(sample_path().read_bytes())
    assert name == "20:44000001-48000000"
    assert np.array_equal(genome.codes, codes)
    assert (sample_path().parent / "README.md").read_text().startswith("# Sample genome")


def test_names_of_genomes(tmp_path):
    names = ("hg38.fa.gz", "x.2bit", "a.b.fasta", "plain", ".fa")
    assert [genome_name([tmp_path / n]) for n in names] == ["hg38", "x", "a.b", "plain", ".fa"]
    assert genome_name([tmp_path / f"{i}.fa" for i in range(3)]) == "0+1+2"
    assert genome_name([tmp_path / f"{i}.fa" for i in range(9)]) == "0+8_more"


def test_an_existing_folder_for_the_store_may_be_empty(tmp_path):
    (tmp_path / "g.fa").write_bytes(FASTA)
    (tmp_path / "store").mkdir()
    genome = build_genome([tmp_path / "g.fa"], tmp_path / "store", progress=False)
    assert contents(genome) == reference_fasta(FASTA)
