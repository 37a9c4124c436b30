"""Tasks from intervals: what their examples are, and that no test window was trained on."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from helpers.paths import EXPERIMENTS
from references.intervals import members

from cmgems.config.schema import Data, Experiment
from cmgems.data_modules.pretraining import GenomeDataModule
from cmgems.errors import UserError
from cmgems.genome.alphabet import reverse_complement
from cmgems.genome.cache import load_genome, sample_path
from cmgems.genome.spans import intersect, union
from cmgems.runs.experiment import load
from cmgems.tasks import interval_task, matched_windows
from cmgems.tasks.interval_task import split_stretches
from cmgems.tasks.lookup import find_task
from cmgems.tasks.site_windows import WindowShape, describe_problems, place_windows
from cmgems.tasks.splits import few_shot, read_split

PIECE = 44_000_000
WINDOW = 60
SAMPLE_INTRONS = sample_path().parent / "introns.bed"
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
    """On the reverse strand the start is the last base of the interval; read on its strand, the
    base is number 30 of the 60."""
    found = place_windows(genome, "sites.bed", WindowShape(WINDOW, center), folder)
    lines = (folder / "sites.bed").read_text().splitlines()[:600]
    starts = [int(line.split("\t")[1]) - PIECE for line in lines]
    shift = {"middle": (10, 10), "start": (0, 20), "end": (20, 0)}[center]
    wanted = [start + shift[n % 2] - WINDOW // 2 + n % 2 for n, start in enumerate(starts)]
    assert found.start.tolist() == wanted
    assert found.reverse.tolist() == [bool(n % 2) for n in range(600)]
    assert found.read == 603
    assert found.problems == {
        "are at or beyond a contig's ends": 1,
        "are on contigs that it has not": 1,
    }
    assert found.intervals.start.tolist() == starts


def test_positives_are_the_dna_of_the_sites_and_test_is_what_pretraining_holds_out(genome, folder):
    site = task(folder, "negatives: shuffled\n")
    data = GenomeDataModule(Experiment(), genome)
    parts = {split: read_split(site, split) for split in ("train", "dev", "test")}
    lines = (folder / "sites.bed").read_text().splitlines()[:600]
    held_out, seen = members(data.validation_spans), 0
    for n, line in enumerate(lines):
        start = int(line.split("\t")[1]) - PIECE + 10 - WINDOW // 2 + n % 2
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
    sites = place_windows(genome, "sites.bed", WindowShape(WINDOW), folder)
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
    assert counts == {"train": 61, "dev": 12, "test": 23}  # one overlaps a site
    shots = few_shot(site, 5, replicate=0)
    assert shots.labels.tolist() == [0] * 5 + [1] * 5


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("negatives: decoy\n", "negatives: decoy wants signals"),
        ("signals: GT\n", "signals: wanted center start or end"),
        ("signals: [GT, AG]\ncenter: start\n", "signals: found 2, wanted one for each of 1 files"),
        ("signals: XY\ncenter: start\n", "signals: found XY, wanted bases"),
        ("center: [start, end]\n", "center: found 2, wanted 1 or 1"),
        ("negatives: empty.bed\n", "empty.bed: has no interval"),
        ("negatives: no.bed\n", "bad.yaml: negatives: found no.bed, which does not exist in "),
        ("negatives: random\n", "wanted matched, decoy, shifted, shuffled, or a file of intervals"),
        ("train: a.tsv\n", "train: found a file, but the splits"),
        ("dev_contigs: [x]\n", "dev_contigs: wanted test_contigs"),
        ("kind: multilabel\n", "kind: found multilabel"),
        (
            "test_contigs: ['21']\n",
            "test_contigs: found '21', wanted CONTIG:START-END, or a contig of GRCh37_20_44000001-4"
            "8000000: 20:44000001-48000000 (4,000,000 bases)",
        ),
        (
            "window: 100000\n",
            "positives: sites.bed: has no interval with 100000 known bases in the t",
        ),
    ],
)
def test_refused(folder, more, message):
    text = CLASSES if "window" not in more else CLASSES.replace("window: 60\n", "")
    (folder / "bad.yaml").write_text(text + more)
    (folder / "empty.bed").write_text("# nothing\n")
    with pytest.raises(UserError) as caught:
        read_split(find_task(str(folder / "bad.yaml")), "test")
    assert message in str(caught.value)


@pytest.fixture(scope="module")
def splice(genome):
    """The test split of the embedded task, and the windows of its table by hand: (start, strand,
    codes) of donors and acceptors."""
    windows = {1: [], 2: []}
    for line in SAMPLE_INTRONS.read_text().splitlines():
        _, first, last, _, _, strand = line.split("\t")
        ends = (int(first) - PIECE, int(last) - 1 - PIECE)
        for label, site in zip((1, 2), ends if strand == "+" else ends[::-1], strict=True):
            start = site - (100 if strand == "+" else 99)
            codes = np.array(genome.codes[start : start + 200])
            codes = codes if strand == "+" else reverse_complement(codes)
            windows[label].append((start, strand, tuple(codes.tolist())))
    return read_split(find_task("splice"), "test"), windows


def test_splice_sites_are_where_introns_begin_and_end(splice, genome):
    data, windows = splice
    held_out = {block for block in range(40) if block % 5 == 4}
    for label, signal in ((1, "GT"), (2, "AG")):
        inside = {
            codes
            for start, _, codes in windows[label]
            if start // 100_000 == (start + 199) // 100_000 and start // 100_000 in held_out
        }
        assert set(rows(data, label)) <= inside
        assert len(inside) - len(set(rows(data, label))) <= 1  # one may have no decoy
        for number in np.flatnonzero(data.labels == label):
            at = 100 if signal == "GT" else 99
            assert data.text(number)[at : at + 2] == signal


def test_decoys_have_the_signal_and_are_no_sites(splice, genome):
    """As many with GT where a donor has it as donors, on both strands; none overlaps a site or
    another decoy."""
    data, windows = splice
    taken = {start + i for kind in windows.values() for start, _, _ in kind for i in range(200)}
    blocks = {block: bytes(genome.codes[block * 100_000 :][:100_000]) for block in range(4, 40, 5)}
    strands = set()
    signals = {"GT": 0, "AG": 0}
    for number in np.flatnonzero(data.labels == 0):
        letters, codes = data.text(number), data.sequence(number)
        # Decoys of donors come first.
        signal = "GT" if number - (data.labels > 0).sum() < (data.labels == 1).sum() else "AG"
        assert letters[100:102] == "GT" if signal == "GT" else letters[99:101] == "AG"
        signals[signal] += 1
        (at, forward), *_ = [
            (100_000 * block + text.find(bytes(window)), forward)
            for block, text in blocks.items()
            for window, forward in ((codes, True), (reverse_complement(codes), False))
            if bytes(window) in text
        ]
        strands.add(forward)
        assert taken.isdisjoint(range(at, at + 200))
        taken |= set(range(at, at + 200))
    assert signals == {"GT": (data.labels == 1).sum(), "AG": (data.labels == 2).sum()}
    assert strands == {True, False}


def test_embedded_sites_are_tested_where_the_quickstart_does_not_train(genome):
    data = GenomeDataModule(load(EXPERIMENTS / "pretrain/quickstart.yaml"), genome)
    for name in ("splice", "promoter", "ctcf"):
        test = split_stretches(genome, find_task(name).intervals)["test"]
        assert [part.tolist() for part in test] == [x.tolist() for x in data.validation_spans]
    assert not intersect(test, data.train_spans).bases


def test_a_small_genome_is_split_as_pretraining_splits_it(tmp_path):
    """Its blocks are smaller than data.validation_block, in a task as well."""
    letters = np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(0).integers(0, 4, 60_000)]
    (tmp_path / "small.fa").write_bytes(b">one\n" + letters.tobytes() + b"\n")
    small = load_genome(str(tmp_path / "small.fa"))
    data = GenomeDataModule(Experiment(data=Data(genome=str(tmp_path / "small.fa"))), small)
    source = find_task("ctcf").intervals._replace(validation_fraction=0.05)
    assert members(split_stretches(small, source)["test"]) == members(data.validation_spans)
    assert len(data.validation_spans.start) >= 2


@pytest.mark.parametrize("name", ["promoter", "ctcf"])
def test_embedded_sites_and_the_same_on_a_genome_of_the_user(name, tmp_path):
    """The tables of the package as a user's own files, on the sample as a user's own genome, are
    the same task but for its split."""
    task, other = find_task(name), find_task(f"sites/{name}")
    (tmp_path / "sites").symlink_to(task.base)
    source = other.intervals._replace(genome="sample", validation_fraction=0.2)
    mine = read_split(replace(other, intervals=source), "test", tmp_path)
    data = read_split(task, "test")
    assert np.array_equal(mine.codes, data.codes)
    assert (data.labels == 0).sum() == (data.labels == 1).sum() > 10
    with pytest.raises(UserError, match=r"tasks\.genome: found nothing, wanted the genome of "):
        read_split(other, "test", tmp_path)
    with pytest.raises(UserError, match=r"tasks.root: found nothing, .*\(sites/"):
        read_split(other, "test")


@pytest.mark.parametrize(
    ("shift", "donors", "acceptors"), [((1, 1), 120, 120), ((1, 0), 58, 62), ((0, 0), 0, 0)]
)
def test_a_file_that_counts_from_1_is_noticed(genome, tmp_path, shift, donors, acceptors):
    """Starts alone are shifted where somebody took a GTF's columns as they are: then donors are
    missed on one strand, and acceptors on the other."""
    lines = (line.split("\t") for line in SAMPLE_INTRONS.read_text().splitlines()[:120])
    moved = [
        [c[0], *(str(int(x) + n) for x, n in zip(c[1:3], shift, strict=True)), *c[3:]]
        for c in lines
    ]
    (tmp_path / "moved.bed").write_text("".join("\t".join(c) + "\n" for c in moved))
    for center, signal, missed in (("start", "GT", donors), ("end", "AG", acceptors)):
        shape = WindowShape(60, center, signal)
        found = place_windows(genome, "moved.bed", shape, tmp_path)
        line = describe_problems(found, "moved.bed", genome, shape)
        assert found.problems.total() == missed
        assert line == bool(missed) * (
            f"moved.bed: of 120 intervals {missed} lack {signal} (GRCh37_20_44000001-48000000); "
            f"they are left out. {missed} have {signal} one base before: is the file 1-based? BED "
            "counts from 0"
        )


def test_what_cannot_be_used_is_counted_in_a_line(folder, capsys):
    interval_task._notice.cache_clear()
    sites = (folder / "sites.bed").read_text().splitlines()
    (folder / "both.bed").write_text("\n".join([*sites[:100], "20\t44500000\t44500009"]) + "\n")
    data = read_split(task(folder, "negatives: both.bed\n"), "train")
    assert len(rows(data, 0)) == 1
    assert capsys.readouterr().err.splitlines() == [
        "sites.bed: of 603 intervals 1 are at or beyond a contig's ends, 1 are on contigs that it "
        "has not (GRCh37_20_44000001-48000000); they are left out",
        "both.bed: 100 overlap a positive, and are left out",
    ]
    (folder / "first.bed").write_text("\n".join(sites[:60]) + "\n")
    (folder / "two.yaml").write_text(
        "classes: [other, a, b]\npositives: [sites.bed, first.bed]\nwindow: 60\n"
    )
    with pytest.raises(UserError, match=r"positives: first\.bed: has no interval with 60 known"):
        read_split(find_task(str(folder / "two.yaml")), "train")
    assert "sites.bed, first.bed: 60 windows are of two classes, and are left out" in (
        capsys.readouterr().err
    )


def test_positives_without_a_match_are_left_out(folder, capsys, monkeypatch):
    interval_task._notice.cache_clear()
    everything = len(rows(read_split(task(folder), "test"), 1))
    monkeypatch.setattr(matched_windows, "MAX_DISTANCE", 0.002)
    data = read_split(task(folder), "test")
    left = len(rows(data, 1))
    assert 0 < left == len(rows(data, 0)) < everything
    assert (
        f"sites.bed: {everything - left} of {everything} positives of test have no negative that "
        "is matched, and are left out" in capsys.readouterr().err
    )
    monkeypatch.setattr(matched_windows, "MAX_DISTANCE", -1)
    with pytest.raises(UserError, match="negatives: matched: found none for the test part"):
        read_split(task(folder), "test")
