"""Tasks from intervals: what their examples are, and that no test window was trained on."""

import itertools

import numpy as np
import pytest
from references.intervals import members

from cmgems.config.schema import Experiment
from cmgems.data_modules.pretraining import GenomeDataModule
from cmgems.errors import UserError
from cmgems.genome.alphabet import reverse_complement
from cmgems.genome.spans import union
from cmgems.tasks.interval_task import IntervalSource, place_windows, split_stretches
from cmgems.tasks.lookup import find_task
from cmgems.tasks.splits import few_shot, read_split

PIECE = 44_000_000
WINDOW = 60
CLASSES = "classes: [other, site]\npositives: sites.bed\nwindow: 60\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """600 sites all over the sample, on both strands; one beyond it, and one twice."""
    path = tmp_path_factory.mktemp("sites")
    generator = np.random.default_rng(0)
    starts = np.sort(generator.choice(np.arange(100, 3_999_800), 600, replace=False)) + PIECE
    lines = [f"chr20\t{s}\t{s + 21}\tx\t0\t{'+-'[n % 2]}" for n, s in enumerate(starts)]
    lines += [lines[0], "chr20\t5\t26\tx\t0\t+", "chr21\t5\t26\tx\t0\t+"]
    (path / "sites.bed").write_text("\n".join(lines) + "\n")
    return path


def task(folder, more=""):
    path = folder / "site.yaml"
    path.write_text(CLASSES + more)
    return find_task(str(path))


def rows(data, label):
    return [
        tuple(data.codes[a:b].tolist())
        for a, b, y in zip(data.offsets[:-1], data.offsets[1:], data.labels, strict=True)
        if y == label
    ]


@pytest.mark.parametrize(
    ("center", "before"), [("middle", (20, 20)), ("start", (30, 10)), ("end", (10, 30))]
)
def test_windows_are_around_the_sites_on_their_strand(genome, folder, center, before):
    """On the reverse strand the start is the last base of the interval."""
    source = IntervalSource("sample", "sites.bed", "matched", WINDOW, center)
    found = place_windows(genome, source, "sites.bed", folder)
    lines = (folder / "sites.bed").read_text().splitlines()[:600]
    starts = [int(line.split("\t")[1]) - PIECE for line in lines]
    shift = {"middle": (10, 10), "start": (0, 20), "end": (20, 0)}[center]
    wanted = [start + shift[n % 2] - WINDOW // 2 for n, start in enumerate(starts)]
    assert found.start.tolist() == wanted
    assert found.reverse.tolist() == [bool(n % 2) for n in range(600)]
    assert found.dropped == 3


def test_positives_are_the_dna_of_the_sites_and_test_is_what_pretraining_holds_out(genome, folder):
    site = task(folder, "negatives: shuffled\n")
    data = GenomeDataModule(Experiment(), genome)
    parts = {split: read_split(site, split) for split in ("train", "dev", "test")}
    lines = (folder / "sites.bed").read_text().splitlines()[:600]
    held_out, seen = members(data.validation_spans), 0
    for n, line in enumerate(lines):
        start = int(line.split("\t")[1]) - PIECE + 10 - WINDOW // 2
        codes = np.array(genome.codes[start : start + WINDOW])
        codes = tuple((reverse_complement(codes) if n % 2 else codes).tolist())
        is_in = {split for split, part in parts.items() if codes in rows(part, 1)}
        inside = {start in held_out, start + WINDOW - 1 in held_out}
        assert is_in <= ({"test"} if inside == {True} else {"train", "dev"})
        seen += len(is_in)
    assert 590 <= seen <= 600  # without those over an edge
    assert all(len(rows(part, 0)) == len(rows(part, 1)) for part in parts.values())
    assert [len(rows(parts[split], 1)) for split in ("dev", "test")] == pytest.approx(
        [57, 30], abs=25
    )


def test_shuffled_negatives_keep_the_dinucleotides(folder):
    data = read_split(task(folder, "negatives: shuffled\n"), "test")
    for positive, negative in zip(rows(data, 1), rows(data, 0), strict=True):
        assert positive != negative
        pairs = [sorted(itertools.pairwise(codes)) for codes in (positive, negative)]
        assert pairs[0] == pairs[1]


@pytest.mark.parametrize("kind", ["matched", "shifted"])
def test_negatives_are_of_the_same_split_and_overlap_no_site(genome, folder, kind):
    site = task(folder, f"negatives: {kind}\n")
    data = read_split(site, "test")
    stretches = split_stretches(genome, site.intervals)["test"]
    sites = place_windows(genome, site.intervals, "sites.bed", folder)
    free = members(stretches) - members(union(sites.start, sites.start + WINDOW))
    text = bytes(genome.codes)
    for codes in rows(data, 0):
        forward = bytes(codes)
        at = text.find(forward)
        at = at if at >= 0 else text.find(bytes(reverse_complement(np.array(codes, np.uint8))))
        assert at >= 0
        assert set(range(at, at + WINDOW)) <= free
    assert len(rows(data, 0)) == len(rows(data, 1)) > 10
    assert len(set(rows(data, 0))) == len(rows(data, 0))


def test_matched_negatives_have_the_gc_content_of_the_positives(folder):
    data = read_split(task(folder), "train")

    def gc(label):
        return np.array([(np.array(codes) >= 2).mean() for codes in rows(data, label)])

    assert np.ptp(gc(1)) > 0.3
    assert abs(gc(1).mean() - gc(0).mean()) < 0.005
    assert np.corrcoef(gc(1), gc(0))[0, 1] > 0.98


def test_negatives_of_a_file_and_splits_by_contigs(folder):
    (folder / "others.tsv").write_text(
        "chrom\tstart\tend\n"
        + "".join(f"20\t{s}\t{s + 9}\n" for s in range(44_100_000, 48_000_000, 40_000))
    )
    site = task(
        folder,
        "negatives: others.tsv\ntest_contigs: ['20:44000001-45000000']\n"
        "dev_contigs: ['20:45000001-45500000']\n",
    )
    counts = {split: len(rows(read_split(site, split), 0)) for split in ("train", "dev", "test")}
    assert counts == {"train": 62, "dev": 12, "test": 23}
    shots = few_shot(site, 5, replicate=0)
    assert shots.labels.tolist() == [0] * 5 + [1] * 5


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("negatives: no.bed\n", "no.bed: does not exist"),
        ("train: a.tsv\n", "train: found a file, but the splits"),
        ("dev_contigs: [x]\n", "dev_contigs: wanted test_contigs"),
        ("kind: multilabel\n", "kind: found multilabel"),
        ("test_contigs: ['21']\n", "test_contigs: found '21', wanted CONTIG"),
        (
            "window: 100000\n",
            "positives: sites.bed: has no interval with 100000 known bases in the t",
        ),
    ],
)
def test_refused(folder, more, message):
    text = CLASSES if "window" not in more else CLASSES.replace("window: 60\n", "")
    (folder / "bad.yaml").write_text(text + more)
    with pytest.raises(UserError) as caught:
        read_split(find_task(str(folder / "bad.yaml")), "test")
    assert message in str(caught.value)
