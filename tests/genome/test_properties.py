"""FASTA in any layout, cut anywhere, is read as the slow reference reads it."""

import io
import itertools
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from references.fasta import reference_fasta, reference_twobit, twobit_bytes
from references.pmi import reference_counts

from cmgems.difficulty.counts import count_chunks
from cmgems.genome.formats import twobit
from cmgems.genome.formats.fasta import read_fasta
from cmgems.genome.formats.twobit import read_twobit

LETTERS = "ATCGN"


@st.composite
def sequences(draw) -> str:
    """Runs of random bases, N runs and IUPAC codes, in either case."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        alphabet = draw(st.sampled_from(["ACGT", "acgtACGT", "N", "ACGTN", "ACGTRYacgt", "ACGU"]))
        size = draw(st.sampled_from([1, 5, 63, 64, 65, 130, 400]))
        parts.append("".join(rng.choice(list(alphabet), size)))
    return "".join([*parts, "A"])  # a genome of N alone is refused


@st.composite
def layouts(draw) -> bytes:
    """A FASTA file: widths, line ends, blank and ragged lines and the last line end vary."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    blank, ragged, crlf = (draw(st.sampled_from([0, 0, 0.2])) for _ in range(3))
    crlf = draw(st.sampled_from([0, 1, crlf]))
    lines = []
    for number in range(draw(st.integers(1, 4))):
        width = draw(st.sampled_from([1, 7, 60, 63, 64, 65, 128, 1000]))
        lines.append(f">contig{number} of a test")
        sequence, at = draw(sequences()), 0
        while at < len(sequence):
            step = width if rng.random() >= ragged else int(rng.integers(1, 2 * width + 1))
            lines.append(sequence[at : at + step])
            at += step
            if rng.random() < blank:
                lines.append("")
    text = "".join(line + ("\r\n" if rng.random() < crlf else "\n") for line in lines)
    return (text if draw(st.booleans()) else text.rstrip("\r\n")).encode()


def joined(chunks) -> tuple[list[tuple[str, list[int]]], list[tuple[int, int]]]:
    """The contigs of a stream of chunks, and the N and IUPAC codes counted in each."""
    contigs, counted = [], []
    for chunk in chunks:
        for segment in chunk.segments:
            if segment.name is not None:
                assert chunk.codes[segment.start - 1] == 4
                contigs.append((segment.name, []))
                counted.append((0, 0))
            contigs[-1][1].extend(chunk.codes[segment.start : segment.stop].tolist())
            n, iupac = counted[-1]
            counted[-1] = (n + segment.n_count, iupac + segment.iupac_count)
    return contigs, counted


@settings(max_examples=150, deadline=None)
@given(data=layouts(), size=st.sampled_from([32, 64, 100, 257, 1000, 1 << 16]))
def test_any_layout_cut_anywhere(data, size):
    contigs, counted = joined(read_fasta(Path("x.fa"), io.BytesIO(data), size=size))
    chunks = read_fasta(Path("x.fa"), io.BytesIO(data), with_case=True, size=size)
    lower = [bits(chunk) for chunk in chunks]
    assert contigs == reference_fasta(data)
    records = data.decode().split(">")[1:]
    bodies = ["".join(record.split("\n")[1:]).upper() for record in records]
    for (n, iupac), body, (_, codes) in zip(counted, bodies, contigs, strict=True):
        assert n == codes.count(4)
        assert iupac == n - body.count("N")
    letters = "".join("N" + "".join(record.split("\n")[1:]) for record in records)
    letters = letters.replace("\r", "")
    assert np.concatenate(lower).tolist() == [int(letter in "acgtu") for letter in letters]


@settings(max_examples=60, deadline=None)
@given(
    data=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=300), min_size=1, max_size=4),
    order=st.sampled_from("<>"),
    size=st.sampled_from([4, 64, 1 << 22]),
)
def test_2bit_of_any_sequence(data, order, size):
    expected = [(f"contig{i}", codes) for i, codes in enumerate(data)]
    written = twobit_bytes(expected, order)
    assert reference_twobit(written) == expected
    masked = [[(i // 7 + code) % 3 == 0 for i, code in enumerate(codes)] for codes in data]
    written = twobit_bytes(expected, order, masked)
    original, twobit.CHUNK = twobit.CHUNK, size
    try:
        chunks = list(read_twobit(Path("x.2bit"), io.BytesIO(written), lambda n: None, True))
        contigs, counted = joined(chunks)
    finally:
        twobit.CHUNK = original
    assert contigs == expected
    assert [n for n, _ in counted] == [codes.count(4) for codes in data]
    lower = np.concatenate([bits(chunk) for chunk in chunks]).tolist()
    pairs = zip(data, masked, strict=True)
    assert lower == [int(x) for codes, mask in pairs for x in [0, *_known(codes, mask)]]


def bits(chunk):
    """The soft mask of a chunk, a number per code."""
    found = np.unpackbits(chunk.lower.astype("<u8").view(np.uint8), bitorder="little")
    assert not found[len(chunk.codes) :].any()
    return found[: len(chunk.codes)].tolist()


def _known(codes, marked):
    return [code < 4 and is_marked for code, is_marked in zip(codes, marked, strict=True)]


@settings(max_examples=80, deadline=None)
@given(
    contigs=st.lists(sequences(), min_size=1, max_size=5),
    k=st.integers(1, 8),
    threads=st.integers(1, 4),
    cuts=st.lists(st.integers(0, 3000), max_size=12),
)
def test_counts_do_not_depend_on_cuts_and_threads(contigs, k, threads, cuts):
    codes = np.array(
        [c for contig in contigs for c in [4, *reference_fasta(f">x\n{contig}".encode())[0][1]]],
        np.uint8,
    )
    letters = "".join(LETTERS[c] for c in codes)
    edges = sorted({0, len(codes), *(cut for cut in cuts if cut < len(codes))})
    chunks = [codes[a:b] for a, b in itertools.pairwise(edges)]
    counts = count_chunks(chunks, k, threads=threads)
    for length, table in enumerate(counts.tables, 1):
        assert table.tolist() == reference_counts([letters], length)


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 40), k=st.integers(9, 11), seed=st.integers(0, 99))
def test_counts_of_long_words_in_short_sequences(size, k, seed):
    codes = np.random.default_rng(seed).integers(0, 4, size, dtype=np.uint8)
    table = count_chunks([codes], k, threads=1).tables[-1]
    counted = np.flatnonzero(table)
    words = ["".join(LETTERS[int(i) >> 2 * (k - 1 - j) & 3] for j in range(k)) for i in counted]
    sequence = "".join(LETTERS[c] for c in codes)
    windows = [sequence[i : i + k] for i in range(size - k + 1)]
    assert dict(zip(words, table[counted].tolist(), strict=True)) == {
        w: windows.count(w) for w in windows
    }
