"""Scores of variants: against the slow way, and from files with every oddity."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from Bio import SeqIO
from helpers.encoders import tiny_language_model
from helpers.genome_files import build
from helpers.made_variants import make_vcf
from helpers.paths import CHROMOSOMES
from references.variants import leftmost, slow_variant_score

from cmgems.cli import main
from cmgems.genome.alphabet import BASES, encode_bases
from cmgems.genome.annotation.variants import Variant
from cmgems.inference.likelihood import base_distribution
from cmgems.inference.variants import ScoreOptions, score_variants
from cmgems.tokenization import OverlappingKmers

MADE = 10_000 if CHROMOSOMES or "CMGEMS_FAULTS" in os.environ else 200


def random_dna(seed, size):
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), size))


TEXT = random_dna(1, 60) + "ACACACACAC" + random_dna(2, 60)  # a repeat in the middle


@pytest.fixture(scope="module")
def model():
    return tiny_language_model()


@pytest.fixture
def text_genome(tmp_path):
    return build(tmp_path, f">c\n{TEXT}\n".encode())


def scores(model, genome, variants, **options):
    called = [Variant("c", pos, "", ref, alt, "") for pos, ref, alt in variants]
    found = list(
        score_variants(model, OverlappingKmers(3), genome, called, ScoreOptions(**options))
    )
    assert [each.why for each in found] == [""] * len(variants)
    return [each.score for each in found]


CHANGES = [
    (30, TEXT[29], "ACGT"["ACGT".index(TEXT[29]) - 1]),  # one base
    (41, TEXT[40:43], "".join("ACGT"["ACGT".index(b) - 1] for b in TEXT[40:43])),  # three
    (50, TEXT[49], TEXT[49] + "GGATC"),  # insertion
    (50, TEXT[49:54], TEXT[49]),  # deletion
    (66, TEXT[65:68], TEXT[65]),  # deletion in a repeat
    (35, TEXT[34:38], "T"),  # deletion and insertion
]


@pytest.mark.parametrize("both_strands", [True, False])
@pytest.mark.parametrize("flank", [0, 4])
def test_scores_equal_the_slow_ones(model, text_genome, flank, both_strands):
    found = scores(model, text_genome, CHANGES, window=20, flank=flank, both_strands=both_strands)
    wanted = [
        slow_variant_score(model, TEXT, change, 20, flank, both_strands) for change in CHANGES
    ]
    np.testing.assert_allclose(found, wanted, atol=2e-4)
    assert np.ptp(wanted) > 0.1


def test_all_of_the_window_is_a_difference_of_likelihoods(model, text_genome):
    found = scores(model, text_genome, CHANGES[:1], window=16, flank=None)
    assert found == pytest.approx(
        [slow_variant_score(model, TEXT, CHANGES[0], 16, 16, True)], abs=2e-4
    )


def test_all_spellings_of_a_change_have_one_score(model, text_genome):
    """Two bases less in a repeat, wherever and with however many bases around they are written."""
    spellings = [
        (pos, TEXT[pos - 1 : pos + 1 + more], TEXT[pos + 1 : pos + 1 + more])
        for pos, more in itertools.product(range(62, 66), range(1, 4))
    ]
    assert len({leftmost(TEXT, *each) for each in spellings}) == 1
    found = scores(model, text_genome, spellings, window=20, flank=3)
    assert len(set(found)) == 1


def test_reference_and_back_have_opposite_scores(model, tmp_path):
    forward = build(tmp_path, f">c\n{TEXT}\n".encode())
    pos, ref, alt = CHANGES[2]
    changed = TEXT[: pos - 1] + alt + TEXT[pos - 1 + len(ref) :]
    (tmp_path / "other").mkdir()
    back = build(tmp_path / "other", f">c\n{changed}\n".encode())
    there = scores(model, forward, [(pos, ref, alt)], window=20, flank=2)
    assert scores(model, back, [(pos, alt, ref)], window=20, flank=2)[0] == -there[0]


def test_at_the_ends_of_a_contig_what_is_known_is_scored(model, text_genome):
    ends = [(1, TEXT[0], "ACGT"["ACGT".index(TEXT[0]) - 1]), (len(TEXT) - 1, TEXT[-2:], TEXT[-2])]
    assert np.isfinite(scores(model, text_genome, ends, window=20, flank=4)).all()


CONTIGS = {"20": random_dna(3, 1000), "X": random_dna(4, 900)}


@pytest.fixture(scope="module")
def genome_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "two.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in CONTIGS.items()))
    return path


def run(pretrained_run, genome_file, variants, *more):
    where = ("--variants", str(variants), "--genome", str(genome_file))
    return main(["score", str(pretrained_run), *where, *more])


def rows(out):
    return [line.split("\t") for line in out.read_text(encoding="utf-8").split("\n")[1:-1]]


@pytest.fixture(scope="module")
def dna(genome_file, tmp_path_factory):
    """Whole chromosomes, or those of the other tests: their letters by name, and their file."""
    if not CHROMOSOMES:
        return CONTIGS, genome_file
    path = tmp_path_factory.mktemp("chromosomes") / "all.fa"
    path.write_text("".join(f.read_text() for f in sorted(Path(CHROMOSOMES).glob("*.fa"))))
    with open(path) as handle:
        return {each.id: str(each.seq) for each in SeqIO.parse(handle, "fasta")}, path


def test_of_every_oddity_none_is_lost(pretrained_run, dna, tmp_path, capsys):
    """Scored and listed are all that there are, in their order, each with its reason."""
    contigs, genome_file = dna
    made = make_vcf(contigs, MADE)
    vcf, out = tmp_path / "made.vcf", tmp_path / "scores.tsv"
    vcf.write_bytes(made.data)
    options = ("--window", "24", "--flank", "0", "--labels", "HARMS", "--out", str(out))
    assert run(pretrained_run, genome_file, vcf, *options) == 0
    found = rows(out)
    assert [row[7].partition(":")[0] for row in found] == made.outcomes
    assert all(bool(row[6]) != bool(row[7]) for row in found)
    scored = made.outcomes.count("")
    told = capsys.readouterr().err
    assert f"scored {scored:,} of {len(made.outcomes):,} alternatives; listed" in told
    assert f"{made.outcomes.count('reference mismatch'):,} reference mismatch" in told
    assert "AUPRC by chromosome" in told
    assert "on 2 chromosomes, 2 of them with both labels" in told


def test_an_exchange_is_the_log_ratio_at_its_position(
    pretrained_run, genome_file, tmp_path, capsys
):
    from cmgems.hub.pretrained import load_pretrained

    text = CONTIGS["20"]
    ref, alt = text[44], "ACGT"["ACGT".index(text[44]) - 1]
    table = tmp_path / "calls.csv"
    table.write_text(f'chrom,pos,ref,alt\n"chr20",45,{ref},{alt}\n')
    options = ("--window", "40", "--flank", "0", "--strands", "forward")
    assert run(pretrained_run, genome_file, table, *options) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split("\t") == ["chrom", "pos", "id", "ref", "alt", "score", "why"]
    found = load_pretrained(pretrained_run)
    window = encode_bases(text[24:64])[None]
    shares = base_distribution(found.model, found.tokenization, window, np.array([20]))[0].log()
    wanted = float(shares[BASES.index(alt)] - shares[BASES.index(ref)])
    assert float(row.split("\t")[5]) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(
    ("content", "more", "wanted"),
    [
        ("chromosome\tposition\n1\t2\n", (), "line 1: found the columns chromosome, position, w"),
        ("chrom,pos,ref,alt\nc3,45,A,C\n", (), "could be scored (1 not in the genome), wanted var"),
        ("chrom,pos,ref,alt\n", (), "no alternative could be scored (it has none), wanted"),
        ("chrom,pos,ref,alt\n", ("--labels", "y"), "line 1: found no column y, wanted one with"),
        ("chrom,pos,ref,alt\n", ("--window", "3"), "window: found 3 bases, wanted 6 or more"),
        ("", (), "has no variants, wanted a VCF or a table"),
        ("chrom,pos,ref,alt,y\n20,3,{},{},1\n", ("--labels", "y"), "1 of them 1, wanted both 0"),
    ],
)
def test_refused_in_one_line(pretrained_run, genome_file, tmp_path, capsys, content, more, wanted):
    ref = CONTIGS["20"][2]
    table = tmp_path / "variants"
    table.write_text(content.format(ref, "ACGT"["ACGT".index(ref) - 1]))
    assert run(pretrained_run, genome_file, table, *more) == 2
    err = capsys.readouterr().err
    assert wanted in err
    assert err.count("\n") == 1


def test_sequences(pretrained_run, genome_file, tmp_path, capsys):
    short = tmp_path / "short.fa"
    short.write_text(f">c1\n{CONTIGS['20'][:90]}\n>c2\n{CONTIGS['X'][:90]}\n")
    assert main(["score", str(pretrained_run), "--sequences", str(short)]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split("\t") == ["name", "bases", "scored", "log_likelihood", "per_base"]
    assert [line.split("\t")[:3] for line in lines] == [["c1", "90", "90"], ["c2", "90", "90"]]
    assert main(["score", str(pretrained_run)]) == 2
