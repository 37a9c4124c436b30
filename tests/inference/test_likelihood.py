"""Likelihoods of sequences and variants, against the slow and obvious way."""

import math

import numpy as np
import pytest
import torch
from helpers.encoders import tiny_config

from cmgems.cli import main
from cmgems.errors import UserError
from cmgems.genome.alphabet import BASES, encode_bases
from cmgems.inference.likelihood import base_distribution, pseudo_log_likelihood
from cmgems.models.encoder import MaskedLanguageModel
from cmgems.models.layouts import SequenceLayout
from cmgems.tokenization import OverlappingKmers
from cmgems.tokenization.base import CLS, MASK, SEP

K = 3
SHAPE = tiny_config(num_layers=2, hidden_size=16, num_heads=2)
TEXT = "ACGTTGCAACGGTCAT"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = MaskedLanguageModel(SHAPE).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def slow_distribution(model, text, place):
    """p(A), p(T), p(C), p(G) at a place: mask what overlaps, sum k-mers by their base, average."""
    ids = {token: n for n, token in enumerate(OverlappingKmers(K).vocabulary)}
    over = [t for t in range(len(text) - K + 1) if t <= place < t + K]
    tokens = [MASK if t in over else ids[text[t : t + K]] for t in range(len(text) - K + 1)]
    row = torch.tensor([CLS, *tokens, SEP])
    at = torch.tensor(over) + 1
    with torch.no_grad():
        logits = model(row, SequenceLayout.of((len(row),)), at)
    total = dict.fromkeys(BASES, 0.0)
    for t, its in zip(over, logits[:, 5:].softmax(1), strict=True):
        for kmer, share in zip(OverlappingKmers(K).vocabulary[5:], its.tolist(), strict=True):
            total[kmer[place - t]] += share / len(over)
    return [total[base] for base in BASES]


def test_distribution_equals_the_slow_one(model):
    codes, places = encode_bases(TEXT), np.arange(len(TEXT))
    found = base_distribution(model, OverlappingKmers(K), np.tile(codes, (len(places), 1)), places)
    wanted = torch.tensor([slow_distribution(model, TEXT, p) for p in places])
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.allclose(found.sum(1), torch.ones(len(places)), atol=1e-5)


def test_likelihood_is_the_sum_over_the_bases(model):
    wanted = sum(
        math.log(slow_distribution(model, TEXT, p)[BASES.index(base)])
        for p, base in enumerate(TEXT)
    )
    found = pseudo_log_likelihood(model, OverlappingKmers(K), encode_bases(TEXT))
    assert found.bases == len(TEXT)
    assert found.total == pytest.approx(wanted, abs=1e-3)


def test_the_base_itself_is_hidden(model):
    """What stands at the place must not matter to its own distribution."""
    place = np.array([7])
    rows = [encode_bases(TEXT[:7] + base + TEXT[8:])[None] for base in BASES]
    found = [base_distribution(model, OverlappingKmers(K), row, place) for row in rows]
    assert all(torch.equal(one, found[0]) for one in found)


def test_unknown_bases_are_not_scored(model):
    found = pseudo_log_likelihood(model, OverlappingKmers(K), encode_bases("ACGTNNACNGTTACG"))
    # N itself, and the AC between the Ns, of which no 3-mer is known
    assert found.bases == 4 + 6
    assert pseudo_log_likelihood(model, OverlappingKmers(K), encode_bases("NNNNN")).bases == 0
    with pytest.raises(UserError, match="found a sequence that has 50 bases, wanted 3 to 40"):
        pseudo_log_likelihood(model, OverlappingKmers(K), encode_bases("A" * 50))


@pytest.fixture
def genome(tmp_path):
    path = tmp_path / "two.fa"
    generator = np.random.default_rng(1)
    lines = [f">c{n}\n{''.join(generator.choice(list('ACGT'), 90))}" for n in (1, 2)]
    path.write_text("\n".join(lines) + "\n")
    return path, [line.split("\n")[1] for line in lines]


def run(pretrained_run, genome, variants, *more):
    return main(
        ["score", str(pretrained_run), "--variants", str(variants), "--genome", str(genome), *more]
    )


def test_variants_of_a_vcf(pretrained_run, genome, tmp_path, capsys):
    """The score is the log ratio at the place; reference and back have opposite signs."""
    from cmgems.hub.pretrained import load_pretrained

    path, (one, two) = genome
    other = {"A": "C", "C": "A", "G": "T", "T": "G"}
    vcf = tmp_path / "calls.vcf"
    vcf.write_text(
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\n"
        f"c1\t45\trs1\t{one[44]}\t{other[one[44]]}\n"
        f"c2\t1\t.\t{two[0]}\t{other[two[0]]},{two[0]}A\n"
    )
    out = tmp_path / "scores.tsv"
    assert run(pretrained_run, path, vcf, "--window", "40", "--out", str(out)) == 0
    header, *rows = [line.split("\t") for line in out.read_text().splitlines()]
    assert header == ["chrom", "pos", "id", "ref", "alt", "score", "why"]
    assert [row[6] for row in rows] == ["", "", "not a single base"]
    found = load_pretrained(pretrained_run)
    window = encode_bases(one[24:64])[None]
    shares = base_distribution(found.model, found.tokenization, window, np.array([20]))[0].log()
    alt, ref = BASES.index(other[one[44]]), BASES.index(one[44])
    assert float(rows[0][5]) == pytest.approx(float(shares[alt] - shares[ref]), abs=1e-4)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("c1,45,{wrong},A", "line 2: the reference allele is {wrong}, but c1:45 of two is {base}"),
        ("c3,45,A,C", "line 2: found the contig 'c3', the genome two has c1, c2"),
        ("c1,450,A,C", "line 2: found position 450, c1 has 90 bases"),
        ("c1,x,A,C", "line 2: found the position 'x'"),
        ("c1,45,A", "line 2: found 3 columns"),
    ],
)
def test_refused_variants(pretrained_run, genome, tmp_path, capsys, line, wanted):
    path, (one, _) = genome
    words = {"base": one[44], "wrong": "ACGT"[("ACGT".index(one[44]) + 1) % 4]}
    table = tmp_path / "variants.csv"
    table.write_text(f"chrom,pos,ref,alt\n{line.format(**words)}\n")
    assert run(pretrained_run, path, table) == 2
    err = capsys.readouterr().err
    assert wanted.format(**words) in err
    assert err.count("\n") == 1


def test_refused_tables(pretrained_run, genome, tmp_path, capsys):
    table = tmp_path / "variants.tsv"
    table.write_text("chromosome\tposition\n1\t2\n")
    assert run(pretrained_run, genome[0], table) == 2
    assert "wanted chrom, pos, ref, alt" in capsys.readouterr().err


def test_sequences(pretrained_run, genome, capsys):
    assert main(["score", str(pretrained_run), "--sequences", str(genome[0])]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split("\t") == ["name", "bases", "scored", "log_likelihood", "per_base"]
    assert [row.split("\t")[:3] for row in rows] == [["c1", "90", "90"], ["c2", "90", "90"]]
    assert main(["score", str(pretrained_run)]) == 2
