"""Copies of hidden bases in the training DNA: against a search through text."""

import numpy as np
import pytest

from cmgems.genome.spans import Spans
from cmgems.training.copies import STRATA, WORD, copies_of_bases, count_words_on_both_strands

TEXT = "ATCGN"
REVERSED = str.maketrans("ATCG", "TAGC")


def text(codes):
    return "".join(TEXT[code] for code in codes)


def places(word, parts):
    """At how many places in texts a word or its reverse complement begins."""
    both = {word, word.translate(REVERSED)[::-1]}
    return sum(part[i : i + WORD] in both for part in parts for i in range(len(part)))


def slow_copies(codes, spans, codes_BL, counted_BL):
    parts = [text(codes[a:b]) for a, b in zip(spans.start, spans.end, strict=True)]
    copies = []
    for row, counted in zip(codes_BL, counted_BL, strict=True):
        for i in np.flatnonzero(counted):
            first = end = i
            while first > 0 and counted[first - 1]:
                first -= 1
            while end < len(row) and counted[end]:
                end += 1
            words = [text(row[end : end + WORD])]
            if first >= WORD:
                words.append(text(row[first - WORD : first]))
            words = [word for word in words if len(word) == WORD and "N" not in word]
            copies.append(max((places(word, parts) for word in words), default=-1))
    return copies


@pytest.fixture(scope="module")
def repetitive():
    """A small genome of pieces that occur once, twice, many times, on both strands, with gaps."""
    generator = np.random.default_rng(0)
    pieces = [generator.integers(0, 4, 60).astype(np.uint8) for _ in range(8)]
    parts = []
    for number, times in enumerate([1, 1, 2, 3, 4, 9, 12, 30]):
        for copy in range(times):
            piece = pieces[number]
            parts.append(piece if copy % 2 else (piece ^ 1)[::-1])
            if copy % 5 == 4:
                parts.append(np.full(1, 4, np.uint8))
    order = generator.permutation(len(parts))
    return np.concatenate([parts[i] for i in order]), pieces


def test_copies_are_those_of_a_search_through_text(repetitive):
    codes, pieces = repetitive
    spans = Spans(np.array([0, 700, 2000]), np.array([640, 1900, len(codes)]))
    generator = np.random.default_rng(1)
    rows = [codes[start : start + 60] for start in generator.integers(0, len(codes) - 60, 40)]
    rows += [generator.integers(0, 4, 60).astype(np.uint8)]  # DNA that is not in the genome
    rows += [np.array([0, 1] * 30, np.uint8)]  # its words are their own reverse complements
    codes_BL = np.stack([*rows, *pieces])
    counted_BL = generator.random(codes_BL.shape) < 0.08
    counted_BL[:, 30:34] = True
    found = copies_of_bases(codes, spans, codes_BL, counted_BL)
    assert found.tolist() == slow_copies(codes, spans, codes_BL, counted_BL)
    for stratum in STRATA.values():  # the example has them all
        assert stratum.holds(found).any()


def test_a_run_without_a_whole_word_on_either_side_has_no_known_copies():
    codes = np.zeros(100, np.uint8)
    window, counted = np.zeros((1, 2 * WORD), np.uint8), np.zeros((1, 2 * WORD), bool)
    counted[0, WORD - 1 : WORD + 1] = True  # 15 bases are left on either side
    spans = Spans(np.array([0]), np.array([100]))
    assert copies_of_bases(codes, spans, window, counted).tolist() == [-1, -1]
    counted[0, WORD - 1] = False
    assert copies_of_bases(codes, spans, window, counted).tolist() == [100 - WORD + 1]


def test_words_across_a_cut_of_the_work_are_counted_once(monkeypatch, genome):
    from cmgems.training import copies

    codes = np.array(genome.codes[1_000_000:1_020_000])
    spans = Spans(np.array([0]), np.array([len(codes)]))
    window, counted = codes[None, 5_000:5_400], np.zeros((1, 400), bool)
    counted[0, 20:380:20] = True
    whole = copies_of_bases(codes, spans, window, counted)
    monkeypatch.setattr(copies, "_CHUNK", 17)
    assert copies_of_bases(codes, spans, window, counted).tolist() == whole.tolist()
    assert whole.min() >= 1  # the window itself is a part of the genome


def test_strata_part_the_bases_of_known_copies():
    copies = np.array([-1, 0, 1, 2, 3, 9, 10, 500])
    named = {name: copies[s.holds(copies)].tolist() for name, s in STRATA.items()}
    assert named == {
        "all": copies.tolist(),
        "unique": [0],
        "copies_1_to_2": [1, 2],
        "copies_3_to_9": [3, 9],
        "repeats": [10, 500],
    }


def test_no_words_no_counts():
    spans = Spans(np.array([0]), np.array([50]))
    counts = count_words_on_both_strands(np.zeros(50, np.uint8), spans, np.empty(0, np.uint32))
    assert counts.tolist() == []
