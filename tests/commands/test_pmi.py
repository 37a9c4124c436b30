"""`cmgems pmi` and the functions that it calls: merging, comparing, tracks, plots."""

import numpy as np
import pytest
from helpers.genome_files import build
from references.pmi import all_kmers

from cmgems.cli import main
from cmgems.difficulty.compare import compare_tables
from cmgems.difficulty.counts import count_words
from cmgems.difficulty.plots import classify_kmers, figures
from cmgems.difficulty.pmi import pmi_table_from_counts
from cmgems.difficulty.table_io import read_table
from cmgems.difficulty.track import base_difficulty, write_track
from cmgems.errors import UserError
from cmgems.genome.region import Region, parse_region


def sequence(seed: int, size: int) -> str:
    bases = np.random.default_rng(seed).choice(list("ATCG"), size, p=[0.35, 0.25, 0.25, 0.15])
    return "".join(bases)


@pytest.fixture
def files(tmp_path):
    """Two genomes: two contigs with an N, and one."""
    a = sequence(1, 30_000)
    (tmp_path / "a.fa").write_text(f">one\n{a[:20_000]}N{a[20_000:25_000]}\n>two\n{a[25_000:]}\n")
    (tmp_path / "b.fa").write_text(f">one\n{sequence(2, 20_000)}\n")
    return tmp_path


def run(*words) -> int:
    return main(["pmi", *map(str, words), "--threads", "2"])


def test_merged_genomes_are_one_genome(files, capsys):
    a, b, joined = files / "a.fa", files / "b.fa", files / "joined.fa"
    joined.write_text(a.read_text() + b.read_text().replace(">one", ">three"))
    options = ("--k", 4, "--min-count", 20)
    assert run(a, *options, "--counts-out", files / "a.counts") == 0
    assert run(files / "a.counts", b, *options, "--out", files / "merged.tsv") == 0
    assert run(joined, *options, "--out", files / "joined.tsv") == 0
    merged, whole = read_table(files / "merged.tsv", 4), read_table(files / "joined.tsv", 4)
    for name in ("counts", "pmi", "npmi", "rank"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(whole, name))
    assert merged.genome_name == "a+b"
    assert len(merged.genome_sha256) == 2 * 64 + 1
    assert "first to be masked" in capsys.readouterr().out


def test_both_strands_give_a_kmer_and_its_reverse_complement_one_score(files):
    options = ("--k", 3, "--min-count", 20, "--both-strands")
    assert run(files / "a.fa", *options, "--out", files / "t.tsv") == 0
    table = read_table(files / "t.tsv")
    assert table.both_strands
    kmers = all_kmers(3)
    reverse = [kmers.index(w.translate(str.maketrans("ATCG", "TAGC"))[::-1]) for w in kmers]
    np.testing.assert_array_equal(table.counts, table.counts[reverse])
    np.testing.assert_allclose(table.npmi, table.npmi[reverse], rtol=0, atol=1e-12)


def test_strands_are_not_mixed(files, capsys):
    run(files / "a.fa", "--k", 3, "--both-strands", "--counts-out", files / "a.counts")
    assert run(files / "a.counts", files / "b.fa", "--k", 3) == 2
    assert capsys.readouterr().err.endswith(
        "not both counted on both strands; give --both-strands\n"
    )
    assert run(files / "a.counts", files / "b.fa", "--k", 3, "--both-strands") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "wanted GENOME... or --table FILE (see --help)"),
        (["a.fa", "--k", "1"], "k is 1; PMI wants k from 2 to 12"),
        (["a.fa", "--k", "13"], "k is 13; PMI wants k from 2 to 12"),
        (["a.fa", "--definition", "other"],
         "PMI definition 'other'; wanted: exact or published"),
        (["a.fa", "--min-count", "1"], "the minimal count is 1; wanted: 2 or more"),
        (["a.fa", "b.fa", "--track", "one"], "--track: found 2 genomes, wanted one GENOME"),
        (["a.fa", "--table", "t.tsv"],
         "--table replaces GENOME; give one of them (both for --track and --places)"),
        (["a.fa", "--bin", "0"], "--bin: found 0, wanted 1 or more"),
        (["a.fa", "--out", "absent/t.tsv"],
         "--out: absent is not a folder, wanted one that exists"),
        (["absent.fa"], "absent.fa: does not exist;"
         " wanted: FASTA (plain, gzip or bgzip), 2bit, GenBank or EMBL"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(words, message, files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    assert run(*words) == 2
    assert capsys.readouterr().err == f"cmgems pmi: {message}\n"


def test_too_little_sequence_for_any_score(files, capsys):
    assert run(files / "b.fa", "--k", 8) == 2
    error = capsys.readouterr().err
    assert "no 8-mer occurs 101 times (the most frequent" in error
    assert error.count("\n") == 1


def tables(k=3):
    return [
        pmi_table_from_counts(
            count_words(np.random.default_rng(s).choice(4, 9000, p=p).astype(np.uint8), k),
            min_count=20,
        )
        for s, p in ((1, [0.3, 0.3, 0.2, 0.2]), (2, [0.4, 0.2, 0.2, 0.2]))
    ]


def test_comparison_against_its_formula():
    first, second = tables(4)
    comparison = compare_tables(first, second)
    a, b = first.rank.astype(float), second.rank.astype(float)
    assert comparison.spearman == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-12)
    in_both = set(np.flatnonzero(a <= 100)) & set(np.flatnonzero(b <= 100))
    assert comparison.top == {100: len(in_both)}
    moves = np.abs(a - b)[comparison.moved]
    assert np.all(np.diff(moves) <= 0)
    assert len(set(comparison.moved.tolist())) == 256
    same = compare_tables(first, first)
    assert (same.spearman, same.spearman_scored, same.top) == (1, 1, {100: 100})
    with pytest.raises(UserError, match="tables of k = 4 and k = 3; wanted: the same k"):
        compare_tables(first, tables(3)[0])


def test_compare_is_printed(files, capsys):
    options = ("--k", 4, "--min-count", 20)
    run(files / "a.fa", *options, "--out", files / "a.tsv")
    run(files / "b.fa", *options, "--out", files / "b.tsv")
    assert run("--table", files / "a.tsv", "--compare", files / "b.tsv") == 0
    out = capsys.readouterr().out
    expected = compare_tables(read_table(files / "a.tsv"), read_table(files / "b.tsv"))
    assert f"rank correlation (Spearman)        {expected.spearman:.4f}" in out
    assert f"in the top 100 of both  {expected.top[100]}" in out
    assert out.count(" -> ") == 21


def test_the_track_of_a_region_base_by_base(files):
    genome = build(files, (files / "a.fa").read_bytes())
    table = pmi_table_from_counts(count_words(genome.codes, 4), min_count=20)
    text = (files / "a.fa").read_text().split("\n")
    contig, kmers = text[1], all_kmers(4)
    values = base_difficulty(genome, table, genome.contigs[0], 0, 25_001)
    for base in (0, 1, 2, 500, 19_997, 19_998, 19_999, 20_000, 20_001, 20_002, 24_999, 25_000):
        word = contig[max(base - 1, 0) : base + 3]
        known = base >= 1 and len(word) == 4 and "N" not in word
        expected = table.npmi[kmers.index(word)] if known else np.nan
        np.testing.assert_equal(values[base], expected)


@pytest.mark.parametrize("bin_size", [1, 7, 100])
def test_the_bedgraph_holds_the_means(files, bin_size, monkeypatch):
    monkeypatch.setattr("cmgems.difficulty.track._CHUNK", 450)
    genome = build(files, (files / "a.fa").read_bytes())
    table = pmi_table_from_counts(count_words(genome.codes, 4), min_count=20)
    region = parse_region(genome, "one:19,001-20,950")
    assert region == Region(genome.contigs[0], 19_000, 20_950)
    with open(files / "track", "w") as handle:
        write_track(genome, table, region, handle, bin_size)
    header, *lines = (files / "track").read_text().splitlines()
    assert header.startswith('track type=bedGraph name="NPMI k=4"')
    values = base_difficulty(genome, table, genome.contigs[0], 19_000, 20_950)
    end_before = 19_000
    for line in lines:
        name, start, end, value = line.split("\t")
        start, end = int(start), int(end)
        assert name == "one"
        assert start >= end_before
        for at in range(start, end, bin_size):
            window = values[at - 19_000 : min(at + bin_size, end) - 19_000]
            assert float(value) == pytest.approx(np.nanmean(window), abs=6e-5)
        end_before = end
    covered = sum(int(line.split("\t")[2]) - int(line.split("\t")[1]) for line in lines)
    if bin_size == 1:
        assert covered == np.sum(~np.isnan(values)) > 1900


def test_regions_that_do_not_exist(files):
    genome = build(files, (files / "a.fa").read_bytes())
    assert parse_region(genome, "two") == Region(genome.contigs[1], 0, 5000)
    for text in ("three", "two:0-5", "two:6-5", "two:,-5"):
        with pytest.raises(
            UserError, match=f"found '{text}', wanted CONTIG:START-END, or a contig"
        ):
            parse_region(genome, text)
    for text in ("three:1-5", "two:1-5001"):
        with pytest.raises(UserError, match=r"is not in .*, which has one \(25,001 bases\), two"):
            parse_region(genome, text)


def test_the_track_is_printed_alone(files, monkeypatch, capsys):
    monkeypatch.setenv("CMGEMS_CACHE", str(files / "cache"))
    options = ("--k", 4, "--min-count", 20)
    assert run(files / "b.fa", *options, "--track", "one:11-20") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("track type=bedGraph")
    assert run(files / "b.fa", *options, "--track", "one:11-20", "--track-out", files / "t") == 0
    assert (files / "t").read_text() == printed
    run(files / "b.fa", *options, "--out", files / "b.tsv")
    capsys.readouterr()
    assert run(files / "b.fa", "--table", files / "b.tsv", "--track", "one:11-20") == 0
    assert capsys.readouterr().out == printed


def test_kinds_of_kmers():
    kind = dict(zip(all_kmers(6), classify_kmers(6).tolist(), strict=True))
    low = ("AAAAAA", "ATATAT", "AAAATT", "CACACA", "CCTCCC")
    assert [kind[word] for word in low] == [1] * 5
    assert [kind[word] for word in ("TTTTCG", "CGCGCG", "ACGTAC")] == [2] * 3
    assert [kind[word] for word in ("AAATTT", "ACTGGA", "GCGCTT")] == [0, 0, 2]


def test_plots(files, capsys):
    one, _ = tables(4)
    assert set(figures(one)) == {"rank_distribution", "extremes", "pmi_against_frequency"}
    (files / "f.csv").write_text(
        "kmer,rank\n" + "".join(f"{w},{i + 1}\n" for i, w in enumerate(all_kmers(3)))
    )
    assert set(figures(read_table(files / "f.csv"))) == {"rank_distribution", "extremes"}
    options = ("--k", 4, "--min-count", 20, "--plots", files / "plots")
    assert run(files / "a.fa", *options) == 0
    for name in figures(one):
        png = (files / "plots" / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG")
        assert len(png) > 10_000
