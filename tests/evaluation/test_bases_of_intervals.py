"""The bases of random intervals, on both strands, against Biopython and pysam."""

from pathlib import Path

import numpy as np
import pytest
from Bio import SeqIO
from helpers.paths import CHROMOSOMES

from cmgems.evaluation.prediction.inputs import interval_input
from cmgems.genome.alphabet import BASES
from cmgems.genome.cache import sample_path
from cmgems.genome.genome import build_genome

INTERVALS = 1000 if CHROMOSOMES else 60
COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


@pytest.fixture(scope="module")
def fasta(tmp_path_factory):
    """The chromosomes or, without them, two pieces of the sample, in lines of 61 letters."""
    path = tmp_path_factory.mktemp("fasta") / "two.fa"
    if CHROMOSOMES:
        texts = [file.read_text() for file in sorted(Path(CHROMOSOMES).glob("*.fa"))]
        path.write_text("".join(texts))
        return path
    with open(sample_path(), "rb") as handle:
        sample = bytes(next(SeqIO.parse(handle, "twobit")).seq).decode()
    with open(path, "w") as handle:
        for name, start in (("20", 1_000_000), ("chrX some words", 3_000_000)):
            text = sample[start : start + 50_000] + "NNRYKM"
            lines = [text[at : at + 61] for at in range(0, len(text), 61)]
            handle.write(f">{name}\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def records(fasta):
    with open(fasta) as handle:
        return {record.id: record.seq for record in SeqIO.parse(handle, "fasta")}


@pytest.fixture(scope="module")
def intervals(records):
    """Contig, start, end, strand; among them both ends of each contig."""
    generator = np.random.default_rng(0)
    rows = []
    for name, seq in records.items():
        rows += [(name, 0, 30, "-"), (name, len(seq) - 40, len(seq), "-")]
    while len(rows) < INTERVALS:
        name = str(generator.choice(list(records)))
        start = int(generator.integers(0, len(records[name]) - 2000))
        size = int(generator.integers(1, 2000))
        rows.append((name, start, start + size, str(generator.choice(["+", "-"]))))
    return rows


def plain(text):
    """In capitals, whatever is not known as N."""
    return "".join(letter if letter in BASES else "N" for letter in text.upper())


def test_bases_equal_those_of_biopython_and_of_pysam(fasta, records, intervals, tmp_path):
    bed = tmp_path / "sites.bed"
    rows = [f"{name}\t{start}\t{end}\tx\t0\t{strand}" for name, start, end, strand in intervals]
    bed.write_text("\n".join(rows) + "\n")
    genome = build_genome([fasta], tmp_path / "store", progress=False)
    items = list(interval_input(genome, str(bed), 0, "middle").items)
    found = ["".join((BASES + "N")[code] for code in item.codes) for item in items]
    by_biopython, by_pysam = [], []
    for name, start, end, strand in intervals:
        part = records[name][start:end]
        by_biopython.append(plain(str(part.reverse_complement() if strand == "-" else part)))
    assert found == by_biopython
    assert sum(map(len, found)) > 800 * INTERVALS
    pysam = pytest.importorskip("pysam")
    with pysam.FastaFile(str(fasta)) as index:
        for name, start, end, strand in intervals:
            text = plain(index.fetch(name, start, end))
            by_pysam.append(text.translate(COMPLEMENT)[::-1] if strand == "-" else text)
    assert found == by_pysam
