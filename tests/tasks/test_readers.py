"""Labelled files: each format, plain and gzip; each fault with its file and line."""

import gzip
import tempfile
from pathlib import Path

import numpy as np
import pytest
from helpers.labelled_samples import REAL, csv_table, kmer_table, kmers, random_sequences
from helpers.paths import CASES
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cmgems.errors import UserError
from cmgems.tasks.dataset import canonical_keys, concatenate, from_sequences
from cmgems.tasks.readers import ReadOptions, read_examples

BINARY = ReadOptions("binary", ("0", "1"))
SEQUENCES = [sequence for sequence, _ in REAL]
LABELS = [int(label) for _, label in REAL]


def texts(data):
    return [data.text(i) for i in range(len(data))]


def write(path, text, packed=False):
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if packed else data)
    return path


def message(tmp_path, text, options=BINARY, format="table"):
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(UserError) as caught:
        read_examples(format, [path], options)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{tmp_path}/")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        csv_table(REAL),
        kmer_table(REAL),
        kmer_table(REAL, quoted=True),
        kmer_table(REAL, k=3),
        kmer_table(REAL).replace("\n", "\r\n"),
        csv_table(REAL).lower(),
        "\ufeff" + csv_table(REAL),
        "id,label,sequence\n" + "".join(f"x,{label},{s}\n" for s, label in REAL),
        "Sequence,Label\n" + "".join(f"{s},{label}\n" for s, label in REAL),
        csv_table(REAL).replace("\n", "\n  \n,\n"),
        csv_table([(s, f"{label}.0") for s, label in REAL]),
    ],
    ids=[
        "csv",
        "kmers",
        "quoted",
        "k=3",
        "CRLF",
        "lower case",
        "byte-order mark",
        "columns",
        "capitals",
        "blank rows",
        "labels as decimals",
    ],
)
def test_every_form_of_a_table_gives_the_same_examples(tmp_path, text, packed):
    data = read_examples("table", [write(tmp_path / "t", text, packed)], BINARY)
    assert texts(data) == SEQUENCES
    assert data.labels.tolist() == LABELS
    assert (data.codes.dtype, data.offsets.dtype, data.labels.dtype) == (
        np.uint8,
        np.int64,
        np.int64,
    )


def test_fasta_formats(tmp_path):
    records = [f">s{i} words\n{s[:40]}\n{s[40:]}\n" for i, s in enumerate(SEQUENCES)]
    # one file a class, in the order of the classes
    write(tmp_path / "0.fa", "".join(r for r, y in zip(records, LABELS, strict=True) if y == 0))
    write(
        tmp_path / "1.fa", "".join(r for r, y in zip(records, LABELS, strict=True) if y == 1), True
    )
    data = read_examples("fasta_classes", [tmp_path / "0.fa", tmp_path / "1.fa"], BINARY)
    assert texts(data) == SEQUENCES[3:] + SEQUENCES[:3]
    assert data.labels.tolist() == [0, 0, 1, 1, 1]
    assert data.names == ("s3", "s4", "s0", "s1", "s2")
    # a file and a table, in another order
    write(tmp_path / "all.fa", "".join(records))
    rows = [f"{y},s{i}" for i, y in reversed(list(enumerate(LABELS)))]
    table = write(tmp_path / "labels.csv", "\n".join(["label,name", *rows]) + "\n")
    data = read_examples("fasta_table", [tmp_path / "all.fa", table], BINARY)
    assert (texts(data), data.labels.tolist()) == (SEQUENCES, LABELS)
    # names that end in the label
    headed = "".join(f">chr1:{i}|{y}\n{s}\n" for i, (s, y) in enumerate(REAL))
    data = read_examples("fasta_header", [write(tmp_path / "h.fna", headed)], BINARY)
    assert (texts(data), data.labels.tolist()) == (SEQUENCES, LABELS)


def test_a_folder_a_class(tmp_path):
    for label, name in ((0, "negative"), (1, "positive")):
        (tmp_path / name).mkdir()
        for i, (s, y) in enumerate(REAL):
            if int(y) == label:
                write(tmp_path / name / f"{i + 8}.txt", s + "\n")
    options = ReadOptions("binary", ("negative", "positive"))
    data = read_examples("folders", [tmp_path], options)
    assert data.names == ("11", "12", "8", "9", "10")  # by number
    assert texts(data) == SEQUENCES[3:] + SEQUENCES[:3]
    (tmp_path / "positive").rename(tmp_path / "other")
    with pytest.raises(UserError, match="positive: does not exist, wanted a folder for each class"):
        read_examples("folders", [tmp_path], options)


def test_multilabel_and_regression(tmp_path):
    text = "sequence,label\nACGT,a;c\nACGA,\nACGC,b\n"
    path = write(tmp_path / "m.csv", text)
    data = read_examples("table", [path], ReadOptions("multilabel", ("a", "b", "c")))
    assert data.labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    path = write(tmp_path / "r.csv", "sequence,label\nACGT,1.5\nACGA,-2e3\n")
    data = read_examples("table", [path], ReadOptions("regression", ()))
    assert data.labels.tolist() == [1.5, -2000.0]
    assert data.labels.dtype == np.float32


def test_ambiguous_letters_are_kept_as_code_4(tmp_path):
    text = csv_table([("ACGTN", "0"), ("acgtuRYn", "1")])
    data = read_examples("table", [write(tmp_path / "n.csv", text)], BINARY)
    assert texts(data) == ["ACGTN", "ACGTTNNN"]
    text = kmer_table([("ACGTNACG", "0"), ("ACGTACGN", "1")])
    assert texts(read_examples("table", [write(tmp_path / "n.tsv", text)], BINARY)) == [
        "ACGTNACG",
        "ACGTACGN",
    ]


FAULTS = {
    "empty file": ("", "t.csv: line 1: found the columns nothing, wanted sequence, label"),
    "other columns": (
        "seq,y\nACGT,1\n",
        "t.csv: line 1: found the columns seq, y, wanted sequence, label",
    ),
    "no header": (
        "ACGTACGT,1\nACGT,0\n",
        "t.csv: line 1: found the columns ACGTACGT, 1, wanted sequence, label",
    ),
    "header alone": ("sequence,label\n", "t.csv: has no examples, wanted at least one"),
    "a field too many": (
        "sequence,label\nACGT,1\nACGT,1,2\n",
        "t.csv: line 3: found 3 fields, wanted 2 as in the header",
    ),
    "a field too few": (
        "sequence,label\nACGT\n",
        "t.csv: line 2: found 1 fields, wanted 2 as in the header",
    ),
    "unknown label": (
        "sequence,label\nACGT,1\nACGT,2\n",
        "t.csv: line 3: has the label '2', wanted 0, 1",
    ),
    "missing label": (
        "sequence,label\nACGT,1\nACGA,\n",
        "t.csv: line 3: has no label, wanted 0, 1",
    ),
    "one class": (
        "sequence,label\nACGT,1\nACGA,1\n",
        "t.csv: all 2 examples have the label '1', wanted at least two of 0, 1",
    ),
    "protein": (
        "sequence,label\nACGT,1\nMKVL,0\n",
        "t.csv: line 3: letter 4 of the sequence is 'L', wanted A C G T U N or another IUPAC "
        "nucleotide code",
    ),
    "k-mers that do not follow": (
        "sequence\tlabel\nACG CGT GTT\t0\nACG CGT TTT\t1\n",
        "t.csv: line 3: k-mer 3 is 'TTT', which does not continue 'CGT' before it, wanted "
        "overlapping k-mers",
    ),
    "k-mers of two lengths": (
        "sequence\tlabel\nACG CGT GTTA\t0\n",
        "t.csv: line 2: the k-mers have different lengths (the first has 3 bases), wanted "
        "overlapping k-mers with one space between",
    ),
    "two spaces": (
        "sequence\tlabel\nACG  CGT\t0\n",
        "t.csv: line 2: the k-mers have different lengths (the first has 3 bases), wanted "
        "overlapping k-mers with one space between",
    ),
    "not text": (b"\xff\xfe\x00", "t.csv: is not text (byte 0), wanted a table"),
    "torn gzip": (
        gzip.compress(b"sequence,label\nACGT,1\n")[:-9],
        "t.csv: the gzip file is damaged",
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_is_told_in_one_line(tmp_path, kind):
    text, wanted = FAULTS[kind]
    assert message(tmp_path, text).startswith(wanted)


def test_faults_of_numbers_lengths_and_names(tmp_path):
    number = ReadOptions("regression", ())
    assert message(tmp_path, "sequence,label\nACGT,x\n", number) == (
        "t.csv: line 2: has the label 'x', wanted a number"
    )
    assert message(tmp_path, "sequence,label\nACGT,2.5\nACGA,2.5\n", number) == (
        "t.csv: all 2 examples have the value 2.5, wanted several"
    )
    assert "'1e300', wanted at most 1e+15" in message(
        tmp_path, "sequence,label\nACGT,1e300\n", number
    )
    assert "'nan', wanted a number" in message(tmp_path, "sequence,label\nACGT,nan\n", number)
    short = BINARY._replace(min_length=6)
    assert message(tmp_path, "sequence,label\nACGTACG,1\nACGTA,0\n", short) == (
        "t.csv: line 3: the sequence has 5 bases, wanted at least 6"
    )
    fasta = write(tmp_path / "x.fa", ">a\nACGT\n>b\nACGA\n")
    cases = {
        "name,label\na,0\n": f"{fasta}: b: has no label in {tmp_path}/l.csv",
        "name,label\na,0\nb,1\nc,1\n": f"{tmp_path}/l.csv: 'c' has no sequence in {fasta}",
        "name,label\na,0\na,1\n": f"{tmp_path}/l.csv: line 3: 'a' is listed twice",
    }
    for text, wanted in cases.items():
        with pytest.raises(UserError) as caught:
            read_examples("fasta_table", [fasta, write(tmp_path / "l.csv", text)], BINARY)
        assert str(caught.value) == wanted
    twice = write(tmp_path / "twice.fa", ">a\nACGT\n>a\nACGA\n")
    table = write(tmp_path / "l.csv", "name,label\na,0\n")
    with pytest.raises(UserError, match=r"twice\.fa: a: is listed twice"):
        read_examples("fasta_table", [twice, table], BINARY)
    with pytest.raises(UserError, match=r"x\.fa: a: has no label, wanted 0, 1"):
        read_examples("fasta_header", [fasta], BINARY)


DAMAGE = st.tuples(
    st.sampled_from(["csv", "kmers", "quoted", "gzip"]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 10**6),
)


@settings(max_examples=CASES // 20, deadline=None)
@given(DAMAGE)
@example(("quoted", [(17, 0)], 0))  # a column's name that ends lines later
@example(("quoted", [(21, 10)], 0))  # k-mers that end lines later
def test_damaged_tables_give_examples_or_one_line(damage):
    """Bytes overwritten, the end cut off: whatever happens, it is told as a fault of the file."""
    form, changes, cut = damage
    text = csv_table(REAL) if form in ("csv", "gzip") else kmer_table(REAL, form == "quoted")
    data = bytearray(gzip.compress(text.encode(), mtime=0) if form == "gzip" else text.encode())
    for place, value in changes:
        data[place % len(data)] = value
    del data[len(data) - cut % 40 :]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "t.csv", bytes(data))
        fault, found = "", None
        try:
            found = read_examples("table", [path], BINARY)
        except UserError as error:
            fault = str(error)
    if found is None:
        assert fault.startswith(f"{path}: ")
        assert "\n" not in fault
    else:
        assert len(found) <= len(REAL)
        assert found.codes.max() <= 4


def test_sequences_may_be_long(tmp_path):
    """The csv module takes 131,072 letters a field unless it is told otherwise."""
    long = random_sequences(2, 30_000)
    path = write(tmp_path / "l.tsv", kmer_table([(long[0], "0"), (long[1], "1")]))
    assert texts(read_examples("table", [path], BINARY)) == long


def test_take_reverse_and_join():
    data = from_sequences(["ACGT", "GGN", "", "TTA"], np.array([1, 0, 0, 1]), ("a", "b", "c", "d"))
    taken = data.select([3, 0, 3])
    assert texts(taken) == ["TTA", "ACGT", "TTA"]
    assert (taken.labels.tolist(), taken.names) == ([1, 1, 1], ("d", "a", "d"))
    assert texts(data.select([])) == []
    assert texts(data.reverse_complement()) == ["ACGT", "NCC", "", "TAA"]
    assert texts(concatenate([data, taken])) == [*texts(data), *texts(taken)]
    same = canonical_keys(from_sequences(["AACG", "CGTT", "AACC"], np.zeros(3)))
    assert same[0] == same[1] != same[2]
    assert kmers("ACGTACG") == "ACGTAC CGTACG"
