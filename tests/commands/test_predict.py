"""`cmgems predict`: each kind of input, against one sequence and one strand at a time."""

import sys

import numpy as np
import pytest
import torch
from helpers.classifiers import KINDS, save_random_classifier

from cmgems.cli import main
from cmgems.evaluation.finetuning.classifier import load_classifier
from cmgems.genome.alphabet import encode_bases
from cmgems.tasks.dataset import pack_codes
from cmgems.tasks.tokens import tokenize
from cmgems.tokenization import OverlappingKmers

TOKENS = OverlappingKmers(3)
COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def random_dna(seed, length):
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


CONTIGS = {
    "chr1": random_dna(1, 300),
    "20:1001-1200": random_dna(2, 80) + "N" * 60 + "ACGTTGCA" * 9,
}
CONTIGS["20:1001-1200"] = CONTIGS["20:1001-1200"][:200]
TEXTS = {"short one": random_dna(3, 9), "long": random_dna(4, 100), "n": "ACGNNACGTTGACCA"}


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory):
    """The folder of a classifier of each kind and strands; the encoder has random weights."""
    folder = tmp_path_factory.mktemp("classifiers")
    for kind in KINDS:
        for strands in ("forward", "both"):
            save_random_classifier(folder / f"{kind}-{strands}", kind, strands, TOKENS)
    return folder


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "two.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in CONTIGS.items()))
    return path


@torch.no_grad()
def slow(folder, text):
    """What the classifier says of one sequence, a strand at a time."""
    loaded = load_classifier(folder)
    reverse = text.translate(COMPLEMENT)[::-1]
    both = loaded.description["strands"] == "both"
    logits = np.mean(
        [
            loaded.classifier(tokenize(pack_codes([encode_bases(each)]), TOKENS, 40))[0].numpy()
            for each in ([text, reverse] if both else [text])
        ],
        axis=0,
    )
    kind = loaded.description["kind"]
    if kind == "regression":
        return logits * 3.0 + 5.0
    if kind == "multilabel":
        return 1 / (1 + np.exp(-logits))
    return np.exp(logits) / np.exp(logits).sum()


def table(path):
    """The header and the rows of a table."""
    header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    return header, rows


def numbers(row, count):
    """The values of a row, in front of `why`."""
    return [float(field) for field in row[-1 - count : -1]]


@pytest.mark.parametrize(
    ("kind", "strands"),
    [
        ("binary", "forward"),
        ("multiclass", "both"),
        ("multilabel", "forward"),
        ("regression", "both"),
    ],
)
def test_sequences_of_a_file_and_of_a_table(classifiers, tmp_path, kind, strands, capsys):
    folder, out = classifiers / f"{kind}-{strands}", tmp_path / "out.tsv"
    fasta, csv = tmp_path / "in.fa", tmp_path / "in.csv"
    fasta.write_text("".join(f">{name}\n{text}\n" for name, text in TEXTS.items()))
    rows = "".join(f"{text},{name}\n\n" for name, text in TEXTS.items())
    csv.write_text(f"Sequence,ID\n{rows}")
    columns = [f"p_{name}" for name in KINDS[kind]] or ["value"]
    wanted = [slow(folder, text) for text in TEXTS.values()]
    for path, names in ((fasta, ["short", "long", "n"]), (csv, list(TEXTS))):
        assert main(["predict", str(folder), str(path), "--out", str(out)]) == 0
        header, rows = table(out)
        assert header == ["name", *columns, "why"]
        assert [row[0] for row in rows] == names
        np.testing.assert_allclose(
            [numbers(r, len(columns)) for r in rows], wanted, rtol=1e-5, atol=1e-5
        )
    assert "3 predictions; 1 read in their middle alone" in capsys.readouterr().out
    assert np.ptp(wanted) > 0.1


@pytest.mark.parametrize("strands", ["forward", "both"])
def test_intervals_are_windows_on_their_strand(classifiers, genome, tmp_path, strands, capsys):
    folder, bed, out = classifiers / f"binary-{strands}", tmp_path / "in.bed", tmp_path / "out.tsv"
    bed.write_text(
        "1\t100\t111\ta\t0\t-\nchr1\t50\t90\tb\t0\t+\nchr1\t290\t300\tend\t0\t+\n"
        "chr20\t1010\t1060\tpiece\t0\t.\nchr9\t1\t5\tother\t0\t+\n"
    )
    given = ["predict", str(folder), str(bed), "--genome", str(genome), "--out", str(out)]
    assert main(given) == 0
    header, rows = table(out)
    assert header == ["chrom", "start", "end", "name", "strand", "p_low", "p_high", "why"]
    assert [row[:5] for row in rows[:2]] == [["1", "100", "111", "a", "-"],
                                             ["chr1", "50", "90", "b", "+"]]  # fmt: skip
    text, piece = CONTIGS["chr1"], CONTIGS["20:1001-1200"]
    seen = [text[91:121].translate(COMPLEMENT)[::-1], text[55:85], piece[20:50]]  # the task's 30
    wanted = [slow(folder, each) for each in seen]
    found = [numbers(row, 2) for row in rows if not row[-1]]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert [row[3:] for row in rows if row[-1]] == [
        ["end", "+", "", "", "not in the genome: two has bases 1 to 300 of chr1, found 281 to 310"],
        ["other", "+", "", "",
         "not in the genome: two has no contig chr9, it has chr1, 20:1001-1200"],
    ]  # fmt: skip
    assert "3 predictions; without one: 2 not in the genome" in capsys.readouterr().out

    assert main([*given, "--window", "12", "--center", "start"]) == 0
    assert numbers(table(out)[1][1], 2) == pytest.approx(slow(folder, text[44:56]), abs=1e-5)


@pytest.mark.parametrize("strand", "+-")
def test_a_contig_in_steps_and_its_track(classifiers, genome, tmp_path, strand):
    folder, out = classifiers / "multiclass-forward", tmp_path / "out.tsv"
    region = (
        "--genome",
        str(genome),
        "--region",
        "chr20:1,001-1,200",
        "--window",
        "20",
        "--step",
        "6",
    )
    given = ["predict", str(folder), *region, "--strand", strand, "--out"]
    assert main([*given, str(out)]) == 0
    text, starts = CONTIGS["20:1001-1200"], range(0, len(CONTIGS["20:1001-1200"]) - 19, 6)
    header, rows = table(out)
    assert header[:4] == ["chrom", "start", "end", "p_none"]
    assert [row[:3] for row in rows] == [["chr20", str(1000 + s), str(1020 + s)] for s in starts]
    known = [s for s in starts if set(text[s : s + 20]) != {"N"}]
    assert [row[-1] == "" for row in rows] == [s in known for s in starts]
    seen = [text[s : s + 20] for s in known]
    seen = seen if strand == "+" else [each.translate(COMPLEMENT)[::-1] for each in seen]
    wanted = np.array([slow(folder, each) for each in seen])
    np.testing.assert_allclose(
        [numbers(r, 3) for r in rows if not r[-1]], wanted, rtol=1e-5, atol=1e-5
    )

    track = tmp_path / "out.bedGraph"
    assert main([*given, str(track), "--class", "donor"]) == 0
    first, *lines = track.read_text().splitlines()
    assert first == 'track type=bedGraph name="donor"'
    places = [line.split("\t")[:3] for line in lines]
    assert places == [["chr20", str(1007 + s), str(1013 + s)] for s in known]
    values = [float(line.split("\t")[3]) for line in lines]
    np.testing.assert_allclose(values, wanted[:, 1], rtol=1e-5, atol=1e-5)


def test_parquet_has_what_the_table_has(classifiers, genome, tmp_path, capsys, monkeypatch):
    bed = tmp_path / "in.bed"
    bed.write_text("chr1\t50\t90\tb\t0\t+\nchr9\t1\t5\tother\t0\t+\n")
    given = ["predict", str(classifiers / "binary-forward"), str(bed), "--genome", str(genome)]
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert main([*given, "--out", str(tmp_path / "out.parquet")]) == 2
    assert "found .parquet and no pyarrow, wanted .tsv" in capsys.readouterr().err
    assert not (tmp_path / "out.parquet").exists()
    monkeypatch.undo()
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("out.tsv", "out.parquet"):
        assert main([*given, "--out", str(tmp_path / name)]) == 0
    found = parquet.read_table(tmp_path / "out.parquet").to_pydict()
    header, rows = table(tmp_path / "out.tsv")
    assert list(found) == header
    assert found["start"] == [50, 1]
    assert found["p_high"] == [pytest.approx(float(rows[0][6]), abs=1e-5), None]
    assert found["why"] == [row[-1] for row in rows]


REFUSED = {
    "no input": ([], "found neither of INPUT and --region"),
    "two inputs": (["in.fa", "--region", "chr1", "--genome", "G"], "found both"),
    "a track of intervals": (["in.fa", "--out", "x.bg"], "a track wants --region"),
    "no window": (["--genome", "G", "--region", "chr1"], "--window: found none"),
    "another region": (
        ["--genome", "G", "--region", "chr7", "--window", "9"],
        "--region: found 'chr7'",
    ),
    "a short region": (
        ["--genome", "G", "--region", "chr1:1-10", "--window", "11"],
        "--region: chr1:1-10 has 10 bases, --window wants 11",
    ),
    "no such class": (
        ["--genome", "G", "--region", "chr1", "--window", "9", "--class", "x", "--out", "x.bg"],
        "--class: found x, wanted one of none, donor, acceptor",
    ),
    "no class": (
        ["--genome", "G", "--region", "chr1", "--window", "9", "--out", "x.bg"],
        "--class: found none, wanted one of none",
    ),
    "nothing long enough": (["in.fa"], "nothing could be predicted (1 too short)"),
    "intervals without a genome": (["in.bed"], "wanted sequence"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_in_one_line(case, classifiers, genome, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.fa").write_text(">a\nAC\n")
    (tmp_path / "in.bed").write_text("chr1\t5\t9\n")
    words, wanted = REFUSED[case]
    words = [str(genome) if word == "G" else word for word in words]
    out = [] if "--out" in words else ["--out", "x.tsv"]
    assert main(["predict", str(classifiers / "multiclass-forward"), *words, *out]) == 2
    err = capsys.readouterr().err
    assert wanted in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("*x.*"))
