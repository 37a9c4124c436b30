"""`cmgems inspect`: the page, and the numbers on it."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers.paths import EXPERIMENTS

from cmgems.cli import main
from cmgems.errors import UserError
from cmgems.genome.alphabet import BASES, encode_bases
from cmgems.inspection.inspect import find_region
from cmgems.masking.strategies import STRATEGIES
from cmgems.tokenization import OverlappingKmers

REGION = "chr20:45,000,000-45,002,000"


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    out = tmp_path_factory.mktemp("inspect") / "page.html"
    experiment = EXPERIMENTS / "pretrain/cm_step.yaml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmgems.training.masks.CORPUS_WINDOWS", 128)  # a rate per strategy
        assert main(["inspect", str(experiment), f"region={REGION}", f"out={out}"]) == 0
    return out.read_text()


class Sequences(HTMLParser):
    """The spelled bases of each <pre>, and their marks."""

    def __init__(self):
        super().__init__()
        self.blocks, self.kind, self.inside = [], "", False

    def handle_starttag(self, tag, attributes):
        if tag == "pre":
            self.inside = True
            self.blocks.append(([], []))
        if tag == "span":
            self.kind = dict(attributes)["class"]

    def handle_endtag(self, tag):
        if tag == "pre":
            self.inside = False
        if tag == "span":
            self.kind = ""

    def handle_data(self, data):
        if self.inside and self.kind != "at":
            text = data.strip()
            self.blocks[-1][0].append(text)
            self.blocks[-1][1].extend(self.kind or "-" for _ in text)


def test_the_page_needs_nothing_else(html):
    assert html.startswith("<!doctype html>")
    assert "<script" not in html
    links = re.findall(r"""(?:src|href)=["']([^"'#]+)""", html)
    assert [link for link in links if not link.startswith("#")] == []
    assert "@import" not in html


def test_all_strategies_are_on_it_with_their_fraction(html):
    for name in STRATEGIES:
        row = re.search(rf"<tr><td>{name}</td><td>([\d.]+)</td>", html)
        # a region of three windows may differ from the genome that the rate was solved on
        assert float(row[1]) == pytest.approx(0.15, abs=0.04), name


def test_the_sequence_is_the_regions_and_hidden_bases_are_marked(html, genome):
    parser = Sequences()
    parser.feed(html)
    # at least two stages of the curriculum, and each strategy
    assert len(parser.blocks) >= 2 + len(STRATEGIES)
    start = 45_000_000 - 44_000_001
    codes = np.array(genome.codes[start : start + 306])
    for text, marks in parser.blocks:
        assert np.array_equal(encode_bases("".join(text)), codes)
        assert len(marks) == 306
    by_name = dict(zip(STRATEGIES, parser.blocks[-len(STRATEGIES) :], strict=True))
    assert by_name["uniform"][1].count("m") > 60
    # a wide window: 5 readable bases on each side of 6 hidden ones
    runs = re.findall(r"h+", "".join(by_name["random_wide"][1])[5:-5])
    assert runs
    assert all(len(run) >= 6 for run in runs)


def test_region_by_contig_or_by_chromosome(genome):
    whole = find_region(genome, "20:44000001-48000000:1,000,001-1,000,100", OverlappingKmers(6))
    for name in ("chr20", "20"):
        region = find_region(genome, f"{name}:45,000,001-45,000,100", OverlappingKmers(6))
        assert np.array_equal(region.codes(genome), whole.codes(genome))
        assert region.name == f"{name}:45,000,001-45,000,100"
    assert np.array_equal(whole.codes(genome), genome.codes[1_000_000:1_000_100])
    assert set(find_region(genome, "", OverlappingKmers(6)).codes(genome)) <= set(range(len(BASES)))


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ("20", "region: found '20', wanted 1 to 100,000 bases"),
        ("21", "region: found '21', wanted CONTIG:START-END"),
        ("chr21:1-100", "region: chr21:1-100 is not in GRCh37_20_44000001-48000000, which has 20:"),
        ("chr20:1-100", "region: chr20:1-100 is not in GRCh37_20_44000001-48000000"),
        ("chr20:45000100-45000000", "found 'chr20:45000100-45000000', wanted CONTIG:START-END"),
        ("chr20:45000000-46000000", "region: found 'chr20:45000000-46000000', wanted 1 to 100,000"),
        ("chr20:45000000-45000003", "has no 6-mer, wanted known bases"),
    ],
)
def test_refuses_other_regions(region, message, genome):
    with pytest.raises(UserError) as caught:
        find_region(genome, region, OverlappingKmers(6))
    assert message in str(caught.value)


def test_refuses_to_write_into_no_folder(tmp_path, capsys):
    experiment = str(EXPERIMENTS / "pretrain/random.yaml")
    out = tmp_path / "no" / "page.html"
    assert main(["inspect", experiment, f"region={REGION}", f"out={out}"]) == 2
    message = f"out: {out.parent} is not a folder, wanted one that exists"
    assert message in capsys.readouterr().err


def test_unknown_bases_in_a_region_are_neither_ranked_nor_masked(genome):
    """A region with a gap: its [UNK] tokens have no rank and are never masked."""
    import torch

    from cmgems.genome.genome import Contig
    from cmgems.genome.region import Region
    from cmgems.inspection.inspect import inspect
    from cmgems.masking.masker import Masker
    from cmgems.masking.rates import CenterRates
    from cmgems.runs.experiment import load

    codes = np.array(genome.codes[:1020])
    corpus_BK = OverlappingKmers(6).encode(torch.from_numpy(codes.reshape(2, 510)))
    rank_V = torch.arange(1, 4097, dtype=torch.int32)
    codes[100:150] = 4
    experiment = load(EXPERIMENTS / "pretrain/random.yaml")
    masker = Masker(
        OverlappingKmers(6), rank_V, CenterRates(corpus_BK, rank_V, OverlappingKmers(6))
    )
    contig = Contig("20", 0, 1020, 50)
    gappy = replace(genome, codes=codes, contigs=(contig,))
    inspection = inspect(experiment, gappy, masker, Region(contig, 0, 1020))
    gap = slice(95, 150)  # tokens with an unknown base
    assert np.isnan(inspection.rank_K[gap]).all()
    assert not np.isnan(inspection.rank_K[:95]).any()
    assert len(inspection.rank_all) == 2 * 505 - 55
    for sample in inspection.strategies:
        assert not sample.mask_frequency_K[gap].any()
        assert sample.mask_frequency_K.max() > 0
        assert not sample.hidden_L[100:150].any()
