"""Reading intervals, and where in a genome they are."""

import gzip

import numpy as np
import pytest
from helpers.genome_files import build
from hypothesis import given, settings
from hypothesis import strategies as st
from references.intervals import bed_intervals, covered, gtf_intervals, members

from cmgems.errors import UserError
from cmgems.genome.annotation.intervals import Interval, read_intervals
from cmgems.genome.annotation.regions import place_files, place_intervals, place_regions
from cmgems.genome.spans import Spans, intersect, subtract, union

GTF = """\
#!genome-build GRCh37
20\ta\tgene\t3\t9\t.\t+\t.\tgene_id "G1"; gene_name "ONE"; tag "x;y"; tag "z"
20\ta\texon\t3\t5\t.\t+\t.\tref_gene_id "no"; gene_id G1
20\ta\texon\t8\t9\t0.5\t-\t.\tID=exon:2;Name=second exon
20\ta\texon\t4\t4\t.\t?\t.
"""


def read(folder, text, name="a.bed", feature=""):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [interval._replace(line=0) for interval in read_intervals(f"{path}{feature}")]


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ("", {}),
        ("\tpeak1", {"name": "peak1"}),
        ("\t3.5e-2", {"score": "3.5e-2"}),
        ("\t-", {"strand": "-"}),
        ("\t.", {}),
        ("\tpeak\t7", {"name": "peak", "score": "7"}),
        ("\tpeak\t-", {"name": "peak", "strand": "-"}),
        ("\tp\t0\t+", {"name": "p", "score": "0", "strand": "+"}),
        ("\tp\t0\t.\t5\t6\t255,0,0\t1\t4,\t0,", {"name": "p", "score": "0"}),
        ("\tp\t0\tyes", {"name": "p", "score": "0"}),
        ("\t17\t0\t-\t5\t6\t0\t1\t4\t0", {"name": "17", "score": "0", "strand": "-"}),
        ("\r", {}),
    ],
)
def test_dialects_of_bed(tmp_path, fields, wanted):
    text = f"track name=x\nbrowser position chr1\n# c\n\nchr1\t5\t9{fields}\n"
    assert read(tmp_path, text) == [Interval("chr1", 5, 9, **wanted)]
    assert read(tmp_path, gzip.compress(text.encode())) == [Interval("chr1", 5, 9, **wanted)]


def test_bed_with_blanks_and_tables_with_a_header(tmp_path):
    assert read(tmp_path, "chr1 5   9 - \n") == [Interval("chr1", 5, 9, strand="-")]
    benchmark = "id,region,start,end,strand\n0,chr1,5,9,-\n1,chr2,3,8,+\n"
    wanted = [Interval("chr1", 5, 9, "0", strand="-"), Interval("chr2", 3, 8, "1", strand="+")]
    assert read(tmp_path, benchmark) == wanted
    bend = "chromosome\tstart\tend\tsplit\tlabel\nchr1\t5\t9\ttrain\t0,1\n"
    assert read(tmp_path, bend) == [Interval("chr1", 5, 9)]


def test_features_of_gtf(tmp_path):
    exons = read(tmp_path, GTF, "a.gtf", ":exon")
    assert [(*e[:3], e.strand) for e in exons] == [
        (*row[:3], row[3] if row[3] != "?" else ".") for row in gtf_intervals(GTF, "exon")
    ]
    assert [exon.name for exon in exons] == ["G1", "second exon", ""]
    (gene,) = read(tmp_path, GTF, "a.gtf", ":gene")
    assert gene == Interval("20", 2, 9, "ONE", ".", "+")


@pytest.mark.parametrize(
    ("text", "feature", "message"),
    [
        ("chr1\t5\n", "", "line 1: found 2 columns, wanted BED, GTF:FEATURE"),
        ("chr1\t5\t9\nchr1\t5.0\t9\n", "", "line 2: found '5.0' and '9', wanted the numbers"),
        ("chr1\t5\t9\n\nchr1\t-5\t9\n", "", "line 3: found '-5' and '9'"),
        ("chr1\t5\t1²\n", "", "line 1: found '5' and '1²'"),
        ("chr1\t9\t5\n", "", "line 1: ends at 5, in front of its start 9"),
        ("# nothing\n", "", "has no interval, wanted BED"),
        ("id,chrom,start,end\n1,2\n", "", "line 2: found 2 columns, wanted as in the header"),
        ("name,start,end\n1,2,3\n", "", "line 1: found 'start' and 'end'"),
        (GTF, "", "line 2: found GTF without a feature, wanted"),
        (GTF, ":cds", "has no feature cds, it has exon, gene"),
        (GTF.replace("\t3\t9", "\t0\t9"), ":gene", "line 2: starts at 0, wanted 1 or more"),
        ("chr1\t5\t9\n", ":exon", "line 1: found no GTF, but the feature exon"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\xffdamaged", "", "the gzip file is"),
    ],
)
def test_what_is_refused(tmp_path, text, feature, message):
    with pytest.raises(UserError) as caught:
        read(tmp_path, text, "a", feature)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


_lines = st.lists(
    st.tuples(
        st.sampled_from(["chr1", "2"]),
        st.integers(0, 60),
        st.integers(0, 30),
        st.sampled_from(["", "\tname", "\tname\t3", "\tname\t3\t+", "\tname\t3\t-", "\t+"]),
    ),
    min_size=1,
    max_size=30,
)


@given(_lines)
@settings(deadline=None, max_examples=50)
def test_random_files_equal_the_slow_reading(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("bed")
    text = "".join(f"{c}\t{start}\t{start + size}{more}\n" for c, start, size, more in rows)
    found = read(folder, text)
    assert [(i.contig, i.start, i.end, i.strand) for i in found] == bed_intervals(text)


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    generator = np.random.default_rng(0)
    one, two = ("".join(generator.choice(list("ACGT"), n)) for n in (70, 50))
    return build(tmp_path_factory.mktemp("genome"), f">1\n{one}\n>2\n{two}\n".encode())


@given(_lines)
@settings(deadline=None, max_examples=50)
def test_placed_intervals_cover_the_same_bases(genome, rows):
    intervals = [Interval(contig, start, start + size) for contig, start, size, _ in rows]
    placed = place_intervals(genome, intervals)
    lengths = {"chr1": 70, "2": 50}
    starts = {"chr1": genome.contigs[0].start, "2": genome.contigs[1].start}
    wanted = {starts[contig] + at for contig, at in covered(lengths, intervals)}
    assert members(placed.spans) == wanted
    whole = sum(i.end - i.start > 0 and i.end <= lengths[i.contig] for i in intervals)
    assert placed.read - sum(placed.problems.values()) == whole


def test_what_is_not_used_is_counted_and_nothing_usable_is_refused(genome, tmp_path):
    path = tmp_path / "a.bed"
    path.write_text("1\t5\t9\n3\t5\t9\n2\t40\t60\n2\t50\t60\n1\t7\t7\n3\t0\t1\n")
    placed = place_files(genome, [str(path)], "data.regions")
    assert placed.describe() == (
        "of 6 intervals 2 are on contigs that it has not, 1 reach beyond a contig's ends, "
        "1 are beyond a contig's ends, 1 are empty"
    )
    path.write_text("3\t5\t9\n")
    with pytest.raises(UserError, match=r"data.regions: .*a\.bed: of 1 intervals 1 are on contigs"):
        place_files(genome, [str(path)], "data.regions")


def test_pieces_of_a_chromosome_hold_their_part(tmp_path):
    pieces = build(tmp_path, b">20:11-15\nACGTA\n>20:21-26\nGGGTTT\n")
    placed = place_intervals(pieces, [Interval("chr20", 12, 23), Interval("20", 0, 5)])
    assert members(placed.spans) == {2, 3, 4, 6, 7, 8}
    assert sum(placed.problems.values()) == 2


def test_regions_that_a_user_names(genome):
    spans = place_regions(genome, ["chr2", "1:11-20"], "data.test_contigs")
    second = genome.contigs[1].start
    assert members(spans) == {*range(10, 20), *range(second, second + 50)}
    with pytest.raises(UserError, match=r"^data.test_contigs: found '9', wanted CONTIG:START-END"):
        place_regions(genome, ["9"], "data.test_contigs")


_spans = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=12)


@given(_spans, _spans)
@settings(deadline=None)
def test_spans_of_sets_equal_sets(a, b):
    def spans(pairs):
        starts, sizes = np.array(pairs, np.int64).reshape(-1, 2).T
        return union(starts, starts + sizes)

    one, two = spans(a), spans(b)
    assert members(one) == {at for start, size in a for at in range(start, start + size)}
    results = {
        "union": (one, members(one)),
        "both": (intersect(one, two), members(one) & members(two)),
        "one": (subtract(one, two), members(one) - members(two)),
    }
    for found, wanted in results.values():
        assert members(found) == wanted
        assert (found.start < found.end).all()
        assert (found.end[:-1] <= found.start[1:]).all()
    assert isinstance(results["one"][0], Spans)
