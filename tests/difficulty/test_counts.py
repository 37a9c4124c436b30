"""K-mer counts against a slow reference and KMC; merging, strands, files."""

import shutil
import subprocess
import threading

import numpy as np
import pytest
from helpers.genome_files import build
from references.pmi import all_kmers, reference_counts

from cmgems.difficulty.counts import (
    KmerCounts,
    count_chunks,
    count_kmers,
    count_words,
    reverse_complements,
)
from cmgems.difficulty.counts_io import read_counts, write_counts
from cmgems.difficulty.genome_counts import count_file_kmers, count_genome_kmers, count_source_kmers
from cmgems.errors import UserError
from cmgems.genome.cache import load_genome

LETTERS = np.frombuffer(b"ATCGN", np.uint8)
COMPLEMENT = str.maketrans("ATCG", "TAGC")


def random_codes(seed: int, size: int, n_fraction: float = 0.01) -> np.ndarray:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, size, dtype=np.uint8)
    codes[rng.random(size) < n_fraction] = 4
    return codes


def letters(codes: np.ndarray) -> str:
    return LETTERS[codes].tobytes().decode()


def fasta(*contigs: np.ndarray) -> bytes:
    return "".join(f">c{i}\n{letters(c)}\n" for i, c in enumerate(contigs)).encode()


def same(a: KmerCounts, b: KmerCounts) -> bool:
    return len(a.tables) == len(b.tables) and all(map(np.array_equal, a.tables, b.tables))


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("k", [1, 2, 3, 6, 8, 10])
def test_counts_are_those_of_the_reference(k, threads):
    codes = random_codes(k, 3001)
    counts = count_kmers(codes, k, threads=threads)
    assert counts.dtype == np.int64
    assert counts.tolist() == reference_counts([letters(codes)], k)


def test_the_index_is_the_token_id_less_five():
    # AAAAAA = 5, AAAAAT = 6, AAAAAC = 7, AAAAAG = 8, AAAATA = 9
    for offset, last_two in enumerate([(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]):
        counts = count_kmers(np.array([0, 0, 0, 0, *last_two], np.uint8), 6)
        assert np.flatnonzero(counts).tolist() == [offset]


@pytest.mark.parametrize("k", [6, 9, 10, 12])
def test_a_count_that_carries_many_times(k):
    size = 200_000  # one k-mer, 256 times 781 and more
    counts = count_kmers(np.full(size, 3, np.uint8), k, threads=2)
    assert np.flatnonzero(counts).tolist() == [4**k - 1]
    assert counts[-1] == size - k + 1


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_thread_may_overwrite_its_chunk_when_it_asks_for_the_next(threads):
    codes = random_codes(5, 60_000)
    cuts = np.sort(np.random.default_rng(6).integers(0, len(codes) + 1, 200)).tolist()
    buffers = {}

    def chunks():
        for start, stop in zip([0, *cuts], [*cuts, len(codes)], strict=True):
            buffer = buffers.setdefault(threading.get_ident(), np.empty(len(codes), np.uint8))
            buffer[:] = 3  # overwrites the thread's previous chunk
            buffer[: stop - start] = codes[start:stop]
            yield buffer[: stop - start]

    assert same(count_chunks(chunks(), 7, threads=threads), count_words(codes, 7, threads=1))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_an_error_in_a_chunk_ends_the_count_on_any_thread(threads):
    def chunks():
        for _ in range(20):
            yield random_codes(1, 10_000)
        raise UserError("the twenty-first is bad")

    with pytest.raises(UserError, match="the twenty-first is bad"):
        count_chunks(chunks(), 6, threads=threads)


def test_a_file_is_counted_as_its_store(tmp_path):
    contigs = [random_codes(i, size) for i, size in enumerate([5000, 3, 70, 1, 900])]
    genome = build(tmp_path, fasta(*contigs))
    direct = count_file_kmers(tmp_path / "g.fa", 6, threads=2)
    stored = count_genome_kmers(genome, 6)
    assert same(direct, stored)
    assert direct.genomes == stored.genomes
    assert direct.genomes[0]["sha256"] == genome.sha256
    for length, table in enumerate(direct.tables, 1):
        assert table.tolist() == reference_counts([letters(c) for c in contigs], length)


def test_counts_are_cached_in_the_store_and_used_only_with_its_hash(tmp_path):
    genome = build(tmp_path, fasta(random_codes(1, 4000)))
    counts = count_genome_kmers(genome, 6)
    cached = genome.path / "counts" / "k6.counts"
    assert same(read_counts(cached), counts)
    assert same(count_genome_kmers(genome, 4), counts.up_to(4))
    assert not (genome.path / "counts" / "k4.counts").exists()  # they follow from those of k = 6
    other = tmp_path / "other"
    other.mkdir()
    wrong = count_genome_kmers(build(other, fasta(random_codes(2, 4000))), 6)
    write_counts(wrong, cached)
    assert same(count_genome_kmers(genome, 6), counts)
    cached.write_bytes(cached.read_bytes()[:-8])
    assert same(count_genome_kmers(genome, 6), counts)


def test_counts_of_several_genomes_add_up():
    a, b = random_codes(1, 3000), random_codes(2, 2000)
    both = count_words(a, 6) + count_words(b, 6)
    assert same(both, count_words(np.concatenate([a, [4], b]).astype(np.uint8), 6))
    with pytest.raises(ValueError, match="do not add up"):
        count_words(a, 6) + count_words(b, 5)


def test_both_strands_are_the_genome_and_its_reverse_complement():
    sequence = letters(random_codes(3, 2000))
    reverse = sequence.translate(COMPLEMENT)[::-1]
    codes = np.array(["ATCGN".index(base) for base in sequence], np.uint8)
    pooled = count_words(codes, 5).pooled()
    for length, table in enumerate(pooled.tables, 1):
        assert table.tolist() == reference_counts([sequence, reverse], length)
        assert np.array_equal(table, table[reverse_complements(length)])
    assert pooled.pooled() is pooled


def test_reverse_complements_by_letters():
    kmers = all_kmers(4)
    expected = [kmers.index(kmer.translate(COMPLEMENT)[::-1]) for kmer in kmers]
    assert reverse_complements(4).tolist() == expected


def test_a_file_of_counts_reads_back_and_damage_is_refused(tmp_path):
    counts = count_words(random_codes(4, 3000), 5).pooled()
    counts = KmerCounts(counts.tables, True, ({"name": "a", "sha256": "b", "bases": 3000},))
    path = tmp_path / "c.counts"
    write_counts(counts, path)
    again = read_counts(path)
    assert same(again, counts)
    assert (again.both_strands, again.genomes) == (True, counts.genomes)
    whole = path.read_bytes()
    for at in (30, 90, 100, 500, len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(UserError, match="is truncated or damaged"):
            read_counts(path)
    path.write_bytes(whole.replace(b"counts 1", b"counts 2"))
    with pytest.raises(UserError, match="holds counts of version 2, this cmgems reads 1"):
        read_counts(path)
    path.write_bytes(b"else")
    with pytest.raises(
        UserError, match="is not a file of k-mer counts; wanted: a file that `cmgems"
    ):
        read_counts(path)


def test_sources_that_cannot_be_counted_are_refused(tmp_path):
    build(tmp_path, b">x\nACGTN\n>y\nACGTN\n")
    path = str(tmp_path / "g.fa")
    with pytest.raises(UserError) as caught:
        count_source_kmers(path, 5)
    assert str(caught.value) == (
        f"{path}: has no stretch of 5 bases without N; wanted: longer sequence or a smaller k"
    )
    with pytest.raises(UserError, match="k is 13; wanted: 1 to 12"):
        count_source_kmers(path, 13)
    with pytest.raises(ValueError, match="k is 0; wanted: 1 to 12"):
        count_kmers(np.zeros(9, np.uint8), 0)
    write_counts(count_words(np.zeros(9, np.uint8), 4), tmp_path / "c.counts")
    with pytest.raises(UserError, match="holds counts up to k = 4; wanted: k = 6"):
        count_source_kmers(str(tmp_path / "c.counts"), 6)


@pytest.mark.parametrize("k", [3, 6, 9, 10, 11])
def test_counts_of_human_dna_computed_another_way(k, tmp_path, monkeypatch):
    monkeypatch.setenv("CMGEMS_CACHE", str(tmp_path))
    codes = load_genome("sample").codes  # no N in it
    ids = np.zeros(len(codes) - k + 1, np.int64)
    for i in range(k):
        ids = 4 * ids + codes[i : i + len(ids)]
    assert np.array_equal(count_kmers(codes, k), np.bincount(ids, minlength=4**k))


@pytest.mark.skipif(shutil.which("kmc") is None, reason="KMC is not installed (package kmc)")
@pytest.mark.parametrize("strands", [1, 2])
@pytest.mark.parametrize("k", [6, 10])
def test_counts_are_those_of_kmc(k, strands, tmp_path):
    contigs = [random_codes(i, 20_000, 0.002) for i in range(20)]
    path = tmp_path / "g.fa"
    path.write_bytes(fasta(*contigs))
    one_strand = ["-b"] if strands == 1 else []
    options = [f"-k{k}", "-ci1", "-cs4000000000", *one_strand, "-fm", "-t2"]
    commands = (["kmc", *options, path, tmp_path / "db", tmp_path],
                ["kmc_dump", tmp_path / "db", tmp_path / "dump"])  # fmt: skip
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)
    expected = np.zeros(4**k, np.int64)
    for line in (tmp_path / "dump").read_text().splitlines():
        kmer, count = line.split()
        expected[int(kmer.translate(str.maketrans("ATCG", "0123")), 4)] = int(count)
    counts = count_file_kmers(path, k)
    if strands == 2:  # KMC counts a pair once, under the smaller name; a palindrome once, not twice
        reverse = reverse_complements(k)
        expected = expected + expected[reverse]
        counts = counts.pooled()
    assert np.array_equal(counts.tables[-1], expected)
