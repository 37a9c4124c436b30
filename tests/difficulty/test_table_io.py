"""PMI tables as files: cmgems' own read back without loss, others need a score or a rank."""

import numpy as np
import pytest

from cmgems.difficulty.counts import count_words
from cmgems.difficulty.pmi import pmi_table_from_counts
from cmgems.difficulty.table import all_kmers, rank_scores
from cmgems.difficulty.table_io import read_table, write_table
from cmgems.errors import UserError

KMERS = [kmer.decode() for kmer in all_kmers(2)]


@pytest.fixture
def table():
    codes = np.random.default_rng(5).choice(4, 3000, p=[0.4, 0.3, 0.2, 0.1]).astype(np.uint8)
    return pmi_table_from_counts(count_words(codes, 3), min_count=30)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "t.tsv"


def refusal(path, text: str | bytes, k: int | None = None) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        read_table(path, k)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def foreign(rows: dict[str, object], header: str = "kmer,score") -> str:
    return "\n".join([header, *(f"{kmer},{value}" for kmer, value in rows.items())]) + "\n"


def test_the_order_of_letters():
    assert KMERS[:6] == ["AA", "AT", "AC", "AG", "TA", "TT"]


def test_ours_reads_back_without_loss(table, path):
    write_table(table, path)
    again = read_table(path, 3)
    for name in ("counts", "pmi", "npmi", "rank"):
        np.testing.assert_array_equal(getattr(again, name), getattr(table, name))
        assert getattr(again, name).dtype == getattr(table, name).dtype
    assert (again.k, again.definition, again.min_count) == (3, "exact", 30)
    first = path.read_bytes()
    write_table(again, path)
    assert path.read_bytes() == first


def test_ours_says_where_it_comes_from_and_has_rank_1_first(table, path):
    write_table(table, path)
    lines = path.read_text().splitlines()
    comments = [line for line in lines if line.startswith("#")]
    assert comments[:4] == ["# cmgems PMI table, version 1", "# k: 3", "# definition: exact",
                        "# min_count: 30"]  # fmt: skip
    assert [line.split(":")[0] for line in comments[4:]] == [
        "# both_strands", "# genome", "# genome_sha256", "# cmgems", "# numpy"]  # fmt: skip
    assert lines[len(comments)] == "kmer\tcount\tpmi\tnpmi\trank"
    assert [line.split("\t")[4] for line in lines[len(comments) + 1 :]] == [
        str(i) for i in range(1, 65)
    ]


def test_a_foreign_table_with_scores(path):
    scores = {kmer: (7 * i) % 16 for i, kmer in enumerate(KMERS)}
    path.write_text(foreign(scores))
    table = read_table(path, 2)
    assert table.definition == "foreign"
    assert table.rank.tolist() == [16 - scores[kmer] for kmer in KMERS]
    assert table.counts.tolist() == [-1] * 16


def test_a_foreign_table_with_ranks_in_any_order_and_case(path):
    given = {kmer.lower(): 16 - i for i, kmer in enumerate(KMERS)}
    rows = dict(sorted(given.items()))
    path.write_text(foreign(rows, "Rank is last,RANK".replace("Rank is last", "K-mer")))
    assert read_table(path).rank.tolist() == list(range(16, 0, -1))


def test_no_score_ranks_last_and_ties_go_by_id(path):
    scores = dict.fromkeys(KMERS, 1.5) | {"AA": "nan", "AT": "", "AC": 9}
    path.write_text(foreign(scores))
    expected = [15, 16, 1, *range(2, 15)]
    assert read_table(path).rank.tolist() == expected


def test_ties_in_scores_rank_by_id():
    assert rank_scores(np.array([1.0, 2.0, np.nan, 2.0, np.nan, 1.0])).tolist() == [
        3,
        1,
        5,
        2,
        6,
        4,
    ]


def test_the_wrong_k(table, path):
    write_table(table, path)
    with pytest.raises(UserError, match="line 11: holds a 3-mer; wanted: k = 6"):
        read_table(path, 6)


GOOD = {kmer: float(i) for i, kmer in enumerate(KMERS)}
RANKED = {kmer: i + 1 for i, kmer in enumerate(KMERS)}
REFUSED = {
    "empty": ("", "is empty; wanted: a PMI table (TSV or CSV)"),
    "binary": (b"\xff\xfe\0", "is not text; wanted: a PMI table (TSV or CSV)"),
    "header only": ("kmer,score\n", "has a header and no k-mers; wanted: a PMI table"),
    "other columns": (
        "gene,score\nAA,1\n",
        "has columns gene, score; wanted: a header line with `kmer` and `rank` or `npmi`"
        " (also: score, pmi)",
    ),
    "missing": (
        foreign({kmer: 1 for kmer in KMERS if kmer not in ("TA", "GG")}),
        "2 of the 16 2-mers are missing, first TA; wanted: each of them once",
    ),
    "twice": (foreign(GOOD) + "AA,3\n", "line 18: k-mer AA is listed twice, first in line 2"),
    "infinite": (
        foreign(GOOD | {"AC": "inf"}),
        "line 4: score 'inf'; wanted: a finite number, or nan for no score",
    ),
    "no number": (
        foreign(GOOD | {"AC": "high"}),
        "line 4: score 'high'; wanted: a finite number, or nan for no score",
    ),
    "mixed lengths": (
        foreign(GOOD | {"ACT": 1}),
        "line 18: holds 'ACT', the lines before hold 2-mers",
    ),
    "N": (foreign(GOOD | {"AN": 1}), "line 18: holds 'AN'; wanted: a k-mer of A, C, G and T"),
    "ragged": (foreign(GOOD) + "AA\n", "line 18: has 1 columns, the header has 2"),
    "long word": (
        "kmer,score\n" + "A" * 13 + ",1\n",
        "line 2: holds a k-mer of 13 bases; wanted: 2 to 12",
    ),
    "rank twice": (
        foreign(RANKED | {"TA": 2}, "kmer,rank"),
        "lines 3 and 6 both have rank 2; wanted: each rank from 1 to 16 once",
    ),
    "rank out of range": (
        foreign(RANKED | {"TA": 17}, "kmer,rank"),
        "line 6: rank '17'; wanted: a whole number from 1 to 16",
    ),
    "rank no number": (
        foreign(RANKED | {"TA": 5.5}, "kmer,rank"),
        "line 6: rank '5.5'; wanted: a whole number from 1 to 16",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_the_exact_message(kind, path):
    text, message = REFUSED[kind]
    assert refusal(path, text) == message


def test_what_is_no_file(tmp_path):
    for path, message in ((tmp_path, "Is a directory"), (tmp_path / "x", "No such file")):
        with pytest.raises(UserError, match=message):
            read_table(path)


def test_an_edited_table_of_ours_is_noticed(table, path):
    write_table(table, path)
    lines = path.read_text().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if line.endswith("\t1\n"))
    lines[first] = lines[first].replace("\t1\n", "\t2\n")
    lines[first + 1] = lines[first + 1].replace("\t2\n", "\t1\n")
    assert refusal(path, "".join(lines)) == (
        "the ranks do not follow from npmi; make the table again"
    )
