"""Reading variants from the files that people have, and from damaged ones."""

import contextlib
import gzip
import os

import numpy as np
import pytest
from helpers.genome_files import bgzip
from helpers.made_variants import make_vcf

from cmgems.errors import UserError
from cmgems.genome.annotation import lines
from cmgems.genome.annotation.variants import read_variants

CASES = 20_000 if "CMGEMS_FAULTS" in os.environ else 100
HEADER = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
CONTIGS = {"20": "".join(np.random.default_rng(0).choice(list("ACGT"), 600))}
VCF = (
    b"##fileformat=VCFv4.2\n##INFO=<ID=Y,Number=A,Type=Integer,Description=x>\n"
    b"##INFO=<ID=F,Number=0,Type=Flag,Description=x>\n##contig=<ID=20,length=63025520>\n"
    + HEADER
    + b"20\t5\trs1\ta\tC,G\t.\tPASS\tY=1,0;F\n20\t7\t.\tT\tG\t.\tPASS\t.\n"
)


def read_bytes(folder, data, labels="", name="calls"):
    path = folder / name
    path.write_bytes(data)
    return list(read_variants(path, labels))


def brief(variants):
    return [(v.chrom, v.pos, v.ref, v.alt, v.label) for v in variants]


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress, bgzip])
def test_a_vcf_plain_and_packed(tmp_path, pack):
    wanted = [("20", 5, "A", "C", True), ("20", 5, "A", "G", False), ("20", 7, "T", "G", None)]
    assert brief(read_bytes(tmp_path, pack(VCF), "Y")) == wanted
    flags = [variant.label for variant in read_bytes(tmp_path, pack(VCF), "F")]
    assert flags == [True, True, False]
    assert [v.name for v in read_bytes(tmp_path, pack(VCF))] == ["rs1", "rs1", "."]


def test_a_bcf_is_read_by_pysam(tmp_path):
    pysam = pytest.importorskip("pysam")
    text, packed = tmp_path / "calls.vcf", tmp_path / "calls.bcf"
    text.write_bytes(VCF.replace(b"Description=x", b'Description="x"').replace(b"\ta\t", b"\tA\t"))
    with (
        pysam.VariantFile(str(text)) as source,
        pysam.VariantFile(str(packed), "wb", header=source.header) as out,
    ):
        for record in source:
            out.write(record)
    assert brief(read_variants(packed, "Y")) == brief(read_variants(text, "Y"))
    packed.write_bytes(packed.read_bytes()[:-60])
    with pytest.raises(UserError, match=r"calls\.bcf: "):
        list(read_variants(packed))


@pytest.mark.parametrize(
    "table",
    [
        b"chrom,pos,ref,alt,label\n20,5,A,C,1\n20,7,T,G,false\n",
        b'"chrom"\t"pos"\t"ref"\t"alt"\t"label"\n"20"\t5\t"A"\t"C"\tTRUE\n"20"\t7\t"T"\t"G"\t0\n',
        b"\xef\xbb\xbfLabel,ALT,Ref,Pos,CHROM\r\nyes,C,A,5,20\r\n\r\nno,G,T,7,20\r\n",
        b'note,chrom,pos,ref,alt,label\n"a, b",20,5,A,C,1.0\n"""",20,7,T,G,0.0\n',
    ],
    ids=["comma", "R", "spreadsheet", "quotes"],
)
def test_tables_as_people_have_them(tmp_path, table):
    wanted = [("20", 5, "A", "C", True), ("20", 7, "T", "G", False)]
    assert brief(read_bytes(tmp_path, table, "label")) == wanted


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'20,5,"A,C,1', "line 2: its quotes cannot be read"),
        (b"20,5,A", "line 2: found 3 columns"),
        (b"20,5_0,A,C", "line 2: found the position '5_0'"),
        ("20,1²,A,C".encode(), "line 2: found the position '1²'"),
        (b"20," + b"x" * 200_000 + b",A,C", "line 2: found the position 'xxx"),
    ],
)
def test_lines_that_cannot_be_read_are_listed(tmp_path, line, problem):
    bad, good = read_bytes(tmp_path, b"chrom,pos,ref,alt\n" + line + b"\n20,7,T,G\n")
    assert bad.why.startswith(f"malformed line: {problem}")
    assert len(bad.why) < 120
    assert (good.pos, good.why) == (7, "")


@pytest.mark.parametrize(
    ("data", "labels", "message"),
    [
        (gzip.compress(VCF * 50)[:-40], "", "the gzip file is"),
        (bgzip(VCF * 50)[:-28], "", "the bgzip file is truncated"),
        (b"chrom\0pos", "", "is not text"),
        (b"", "", "has no variants"),
        (b"##fileformat=VCFv4.2\n", "", "has no variants"),
        (b'chrom,pos,ref,"alt', "", "line 1: its quotes cannot be read"),
        (VCF, "Z", "INFO has Y, F, wanted the label Z"),
        (b"BCF\2\2 and no more", "", "calls: "),
    ],
)
def test_what_is_refused(tmp_path, data, labels, message):
    with pytest.raises(UserError, match=message) as caught:
        read_bytes(tmp_path, data, labels)
    assert "\n" not in str(caught.value)


def test_lines_longer_than_a_part_of_the_file_and_none_without_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "_CHUNK", 7)
    monkeypatch.setattr(lines, "MAX_LINE", 70)
    path = tmp_path / "text"
    path.write_bytes(b"a" * 30 + b"\r\n\nb\xe9\n" + "é".encode())
    assert list(lines.read_lines(path, "text")) == [(1, "a" * 30), (2, ""), (3, "bé"), (4, "é")]
    path.write_bytes(b"a\n" + b"b" * 100)
    with pytest.raises(UserError, match="text: line 2: has more than 70 bytes, wanted text"):
        list(lines.read_lines(path, "text"))


def test_damaged_files_are_refused_in_a_line_or_listed(tmp_path):
    """Bytes changed, removed, doubled: never another error, and no line vanishes."""
    made = make_vcf(CONTIGS, 40).data.replace(b"A" * 1000, b"A")
    generator, path, read = np.random.default_rng(0), tmp_path / "calls", 0
    for case in range(CASES):
        data = bytearray(gzip.compress(made, 1) if case % 5 == 0 else made)
        for _ in range(int(generator.integers(1, 4))):
            at, size = int(generator.integers(len(data))), int(generator.integers(1, 30))
            data[at : at + size] = generator.choice(
                [generator.bytes(size), b"", bytes(data[at : at + size]) * 3, b'"', b"\t", b"\n"]
            )
        path.write_bytes(data)
        with contextlib.suppress(UserError):
            found = list(read_variants(path, "HARMS" if case % 2 else ""))
            assert all(bool(v.pos) != bool(v.why) for v in found)
            read += 1
    assert 0.5 * CASES < read < CASES  # some of them are beyond use
