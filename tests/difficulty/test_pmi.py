"""PMI of both definitions against brute force over all segmentations."""

import math
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from references.pmi import all_kmers, reference_pmi, segmentations

from cmgems.difficulty.counts import count_words
from cmgems.difficulty.pmi import pmi_table_from_counts
from cmgems.difficulty.table_io import read_table, write_table
from cmgems.genome.cache import load_genome


@pytest.fixture(scope="module")
def sample_codes(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("CMGEMS_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield load_genome("sample").codes
    patch.undo()


def counts_of(codes, k):
    return replace(count_words(codes, k), genomes=({"name": "some", "sha256": "ab"},))


def test_a_6mer_has_31_segmentations():
    assert len(segmentations("ACGTAC")) == 31


@pytest.mark.parametrize("definition", ["exact", "published"])
@pytest.mark.parametrize("k", [2, 3, 6])
@pytest.mark.parametrize("kind", ["random", "human"])
def test_pmi_is_that_of_brute_force(k, definition, kind, sample_codes):
    rng = np.random.default_rng(7)
    codes = sample_codes if kind == "human" else rng.integers(0, 5, 40_000, dtype=np.uint8)
    counts = counts_of(codes, k)
    table = pmi_table_from_counts(counts, definition, min_count=5)
    words = {
        w: int(c) for j in range(k) for w, c in zip(all_kmers(j + 1), counts.tables[j], strict=True)
    }
    totals = {j + 1: int(counts.tables[j].sum()) for j in range(k)}
    kmers = all_kmers(k)
    for index in rng.permutation(4**k)[:300]:
        f = words[kmers[index]]
        if f < 5:
            assert math.isnan(table.npmi[index])
            continue
        pmi = reference_pmi(kmers[index], words, totals, definition)
        assert table.pmi[index] == pytest.approx(pmi, abs=1e-12)
        npmi = pmi * math.log(f) / (math.log(f) + math.log(5))
        assert table.npmi[index] == pytest.approx(npmi, abs=1e-12)


def test_ranks_are_a_permutation_by_npmi_with_unscored_last(sample_codes):
    table = pmi_table_from_counts(counts_of(sample_codes, 6), "exact", 101)
    assert sorted(table.rank.tolist()) == list(range(1, 4097))
    order = np.argsort(table.rank)
    scores = table.npmi[order]
    scored = ~np.isnan(scores)
    assert scored.sum() == (table.counts >= 101).sum() < 4096
    assert not scored[scored.sum() :].any()
    assert np.all(np.diff(scores[scored]) <= 0)


def test_a_table_reads_back_without_loss(sample_codes, tmp_path):
    table = pmi_table_from_counts(counts_of(sample_codes, 4), "published", 101)
    write_table(table, tmp_path / "t.tsv")
    again = read_table(tmp_path / "t.tsv", 4)
    for name in ("counts", "pmi", "npmi", "rank"):
        np.testing.assert_array_equal(getattr(again, name), getattr(table, name))
    assert (again.k, again.definition, again.genome_name) == (4, "published", "some")


@pytest.mark.parametrize("definition", ["exact", "published"])
def test_progress_ends_at_its_total(definition, sample_codes, monkeypatch):
    seen = []

    @contextmanager
    def bar(total, label, unit):
        done = []
        yield done.append
        seen.append((total, sum(done)))

    monkeypatch.setattr("cmgems.difficulty.pmi.progress_bar", bar)
    pmi_table_from_counts(counts_of(sample_codes, 5), definition)
    assert seen[0][0] == seen[0][1] > 0
