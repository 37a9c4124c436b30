"""Each kind of bad input: its exact message, exit code 2, and nothing left behind."""

import gzip
import os
import struct

import pytest
from helpers.genome_files import bgzip, build, contents
from references.fasta import reference_fasta, twobit_bytes

from cmgems.cli import main
from cmgems.difficulty.genome_counts import count_file_kmers
from cmgems.errors import UserError
from cmgems.genome.formats.reader import read_chunks
from cmgems.genome.genome import build_genome

WANTED = "wanted: FASTA (plain, gzip or bgzip), 2bit, GenBank or EMBL"
LETTERS = "wanted: A C G T U N or another IUPAC nucleotide code"
GOOD = b">x\nACGTACGT\n"
LINES = b">x\n" + b"ACGTACGTACGTACGTACGTACGTACGTACGTACGTACGTACGTACGTACGTACGTACGT\n" * 50

REFUSED = {
    "empty": (b"", f"is empty; {WANTED}"),
    "header only": (b">x\n", "line 1: contig 'x' has no sequence"),
    "header without sequence": (b">x\nACGT\n>y\n>z\nACGT\n", "line 3: contig 'y' has no sequence"),
    "blank lines only": (b"\n\r\n\n", f"has no sequence; {WANTED}"),
    "no header": (
        b"ACGTACGT\n",
        f"has no header: a FASTA file begins with '>', found 'ACGTACGT'; {WANTED}",
    ),
    "FASTQ": (b"@r1\nACGT\n+\nIIII\n", f"is FASTQ (begins with '@'); {WANTED}"),
    "HTML": (
        b"<!DOCTYPE html><html>",
        "is HTML or XML (begins with '<'); was a web page saved in place of the file?; " + WANTED,
    ),
    "byte-order mark": (
        b"\xef\xbb\xbf" + GOOD,
        f"begins with a byte-order mark (UTF-8); save it as plain ASCII; {WANTED}",
    ),
    "UTF-16": (
        GOOD.decode().encode("utf-16"),
        f"begins with a byte-order mark (UTF-16); save it as plain ASCII; {WANTED}",
    ),
    "bzip2": (b"BZh91AY", f"is packed with bzip2; unpack it or pack it with gzip; {WANTED}"),
    "empty name": (b">\nACGT\n", "line 1 is a header without a name"),
    "name of spaces": (GOOD + b">  y\nACGT\n", "line 3 is a header without a name"),
    "name not text": (
        GOOD + b">\xff\xfe\nACGT\n",
        "line 3: the name '\ufffd\ufffd' is not plain text",
    ),
    "names twice": (
        b">x\nACGT\n>y\nAC\n>x z\nACGT\n",
        "line 5: contig 'x' is listed twice, first at PATH: line 1; wanted: names that differ",
    ),
    "protein": (
        b">sp|P1\nMKVLAAGE\n",
        "line 2, byte 10 is 'L', which is not a nucleotide; is this a protein? " + LETTERS,
    ),
    "protein of nucleotide letters": (
        b">p\nMKVHDKSWYVRKMSHDVK\n",
        "18 of 18 letters are IUPAC codes other than A C G T U N; is this a protein?"
        " wanted: nucleotides",
    ),
    "space": (LINES + b"ACGT ACGT\n", f"line 52, byte 3057 is a space; {LETTERS}"),
    "tab": (b">x\nAC\tGT\n", f"line 2, byte 5 is a tab; {LETTERS}"),
    "gap": (
        LINES + b"AC--GT\n",
        f"line 52, byte 3055 is '-', a gap of an alignment; remove the gaps; {LETTERS}",
    ),
    "NUL": (LINES[:-8] + b"\0" + LINES[-7:], f"line 51, byte 3045 is NUL; {LETTERS}"),
    "0xFF": (b">x\nACGT\xff\n", f"line 2, byte 7 is 0xFF; {LETTERS}"),
    "digit": (b">x\nACGT\n1 ACGT\n", f"line 3, byte 8 is '1'; {LETTERS}"),
    "joined files": (
        b">x\nACGT>y\nACGT\n",
        "line 2, byte 7 is '>' in the middle of a line; is a line end missing where two files were"
        " joined?",
    ),
    "old Macintosh": (
        b">x\nACGT\rACGT\n",
        "line 2, byte 7 is a carriage return without a line feed; wanted: lines that end with LF"
        " or CR LF",
    ),
    "all N": (b">x\nNNNN\nnnnn\n", "has no A, C, G or T: all of its 8 bases are N"),
    "truncated gzip": (
        gzip.compress(LINES, mtime=0)[:-12],
        "the gzip file is truncated; fetch or pack it again",
    ),
    "bgzip cut between blocks": (
        bgzip(LINES)[:-28],
        "the bgzip file is truncated (no end mark); fetch or pack it again",
    ),
    "bgzip cut in a block": (
        bgzip(LINES)[:-40],
        "the bgzip file is truncated (no end mark); fetch or pack it again",
    ),
    "empty gzip": (gzip.compress(b""), f"is empty once unpacked; {WANTED}"),
    "wrong byte in gzip": (
        gzip.compress(b">x\nACGT\nAC.GT\n"),
        f"line 3, byte 10 is '.', a gap of an alignment; remove the gaps; {LETTERS}",
    ),
    "2bit version 1": (
        struct.pack("<4I", 0x1A412743, 1, 0, 0),
        "is 2bit version 1; wanted: version 0",
    ),
    "2bit without sequences": (
        struct.pack("<4I", 0x1A412743, 0, 0, 0),
        f"has no sequence; {WANTED}",
    ),
    "wrong signature": (
        struct.pack("<4I", 0x1A412744, 0, 1, 0),
        "is a binary file that is not known here (begins with"
        f" b\"D'A\\x1a\\x00\\x00\\x00\\x00\"); {WANTED}",
    ),
}  # fmt: skip


def message_of(tmp_path, data: bytes) -> str:
    with pytest.raises(UserError) as caught:
        build(tmp_path, data)
    return str(caught.value)


@pytest.mark.parametrize("kind", REFUSED)
def test_the_exact_message(kind, tmp_path):
    data, message = REFUSED[kind]
    path = str(tmp_path / "g.fa")
    assert message_of(tmp_path, data) in (
        f"{path}: {message.replace('PATH', path)}",
        f"{path}: {message}",
    )
    assert os.listdir(tmp_path) == ["g.fa"]


@pytest.mark.parametrize("order", ["<", ">"])
def test_2bit_that_is_cut_or_points_past_its_end(order, tmp_path):
    whole = twobit_bytes([("one", [0, 1, 2, 3] * 50), ("two", [3, 4, 4, 1] * 50)], order)
    again = "fetch it again, or make it again with faToTwoBit"
    assert message_of(tmp_path, whole[:-1]) == (
        f"{tmp_path}/g.fa: the 2bit file is truncated or damaged: the sequence of 'two' should"
        f" be at bytes {len(whole) - 50} to {len(whole)}, the file has {len(whole) - 1}; {again}"
    )
    far = whole[:20] + struct.pack(f"{order}I", 10**9) + whole[24:]
    assert message_of(tmp_path, far) == (
        f"{tmp_path}/g.fa: the 2bit file is truncated or damaged: the head of 'one' should be at"
        f" bytes 1000000000 to 1000000004, the file has {len(whole)}; {again}"
    )
    for cut in range(4, len(whole), 3):
        with pytest.raises(UserError, match=r"2bit|has no sequence"):
            build(tmp_path, whole[:cut])


def test_what_is_no_file(tmp_path):
    build(tmp_path, GOOD)
    os.mkfifo(tmp_path / "pipe")
    cases = {
        tmp_path: f"is a directory; {WANTED}",
        tmp_path / "absent": f"does not exist; {WANTED}",
        tmp_path / "g.fa" / "x": f"does not exist; {WANTED}",
        tmp_path / "pipe": "is a pipe or a device; wanted: a file",
    }
    for path, message in cases.items():
        with pytest.raises(UserError) as caught:
            build_genome([path], tmp_path / "other", progress=False)
        assert str(caught.value) == f"{path}: {message}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path):
    (tmp_path / "g.fa").write_bytes(GOOD)
    (tmp_path / "g.fa").chmod(0)
    with pytest.raises(UserError, match="no permission to read it; wanted: FASTA"):
        build_genome([tmp_path / "g.fa"], tmp_path / "store", progress=False)


def test_no_permission_is_told_whoever_asks(tmp_path, monkeypatch):
    (tmp_path / "g.fa").write_bytes(GOOD)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(UserError) as caught:
        list(read_chunks(tmp_path / "g.fa"))
    assert str(caught.value) == f"{tmp_path}/g.fa: no permission to read it; {WANTED}"


def test_the_command_ends_with_2_and_one_line(tmp_path, capsys):
    (tmp_path / "g.fa").write_bytes(b"ACGT\n")
    assert main(["genome", str(tmp_path / "g.fa"), "--out", str(tmp_path / "store")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"cmgems genome: {tmp_path}/g.fa: has no header")
    assert main(["pmi", str(tmp_path / "g.fa")]) == 2
    capsys.readouterr()
    for words, message in (
        (["g.fa"], "wanted SOURCE... --out DIR, or --check DIR (see --help)"),
        (["g.fa", "--out", "s", "--threads", "0"], "--threads: found 0, wanted 1 or more"),
    ):
        assert main(["genome", *words]) == 2
        assert capsys.readouterr().err == f"cmgems genome: {message}\n"
    assert os.listdir(tmp_path) == ["g.fa"]


def test_the_command_says_what_it_built_and_checks_it(tmp_path, capsys):
    (tmp_path / "g.fa").write_bytes(b">x\nACGTNNRY\n>y\nAC\n")
    store = tmp_path / "store"
    assert main(["genome", str(tmp_path / "g.fa"), "--out", str(store)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{store}: g"
    assert out[1] == "  2 contigs, 10 bases, 40.00 % N (of which 2 IUPAC codes)"
    assert out[2:5] == ["  0.00 % soft-masked", "  x  8", "  y  2"]
    assert "million bases per second" in out[-1]
    assert main(["genome", "--check", str(store)]) == 0
    assert capsys.readouterr().out == f"{store}: verified, 2 contigs as built\n"
    codes = store / "codes.u8"
    status = codes.stat()
    codes.write_bytes(b"\1" + codes.read_bytes()[1:])
    os.utime(codes, ns=(status.st_atime_ns, status.st_mtime_ns))  # a disk that forgets
    assert main(["genome", "--check", str(store)]) == 2
    assert "contig 'x' is damaged" in capsys.readouterr().err


ACCEPTED = {
    "no final newline": b">x\nACGT\nAC",
    "CRLF": b">x\r\nACGT\r\nACGT\r\n>y\r\nAC\r\n",
    "mixed line ends": b">x\nACGT\r\nACGT\nACGT\r\n",
    "blank lines": b"\n\n>x\n\nACGT\n\n\nAC\n\n",
    "ragged lines": b">x\nACG\nACGTAC\nA\nACGTACGTAC\n",
    "lower case": b">x\nacgtnnACGT\nacgt\n",
    "N runs": b">x\n" + b"N" * 500 + b"\n" + b"N" * 63 + b"A" + b"N" * 64 + b"\nACGT\n",
    "IUPAC": b">x\nACGTRYSWKMBDHVNACGTACGTACGTACGT\nacgtryswkmbdhvnacgtacgtacgtacgtacgt\n",
    "RNA": b">x\nACGUACGU\n",
    "words after the name": b">x chromosome 1, whole\nACGT\n>y\tz\nACGT\n",
    "single base": b">x\nA",
    "carriage return at the end": b">x\nACGT\r",
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_the_exact_bases(kind, tmp_path):
    data = ACCEPTED[kind]
    expected = reference_fasta(data)
    for name, packed in (("g.fa", data), ("g.gz", gzip.compress(data)), ("g.bgz", bgzip(data, 7))):
        genome = build(tmp_path, packed, name)
        assert contents(genome) == expected
        assert [c.n_count for c in genome.contigs] == [codes.count(4) for _, codes in expected]


def test_a_single_line_of_300_megabytes(tmp_path):
    unit, repeats = b"ACGTTGCANACGGT" + b"A" * 86, 3_000_000
    path = tmp_path / "long.fa"
    with open(path, "wb") as handle:
        handle.write(b">long\n")
        for _ in range(repeats // 10_000):
            handle.write(unit * 10_000)
    counts = count_file_kmers(path, 2, threads=2)
    path.unlink()
    assert counts.genomes[0]["bases"] == 100 * repeats
    a, t, c, g = counts.tables[0].tolist()
    assert [a, t, c, g] == [(2 + 1 + 86) * repeats, 3 * repeats, 3 * repeats, 4 * repeats]
    # of the 100 pairs a unit begins, the last with the A of the next one, two hold the N
    assert counts.tables[1].sum() == 98 * repeats - 1


def test_one_contig_is_not_called_contigs(tmp_path, capsys):
    (tmp_path / "g.fa").write_bytes(b">x\nACGT\n")
    store = tmp_path / "store"
    assert main(["genome", str(tmp_path / "g.fa"), "--out", str(store)]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "  1 contig, 4 bases, 0.00 % N"
    assert main(["genome", "--check", str(store)]) == 0
    assert capsys.readouterr().out == f"{store}: verified, 1 contig as built\n"
