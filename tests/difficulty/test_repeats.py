"""Repeats of a genome, against counting words as text."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from cmgems.difficulty import repeats as module
from cmgems.difficulty.counts import count_words
from cmgems.difficulty.pmi import compute_pmi_table
from cmgems.difficulty.repeats import Repeats, find_repeats, genome_repeats

COMPLEMENT = str.maketrans("ATCG", "TAGC")


def slow_repeats(codes):
    """Bases under a word of 16 that is found 10 times, on either strand."""
    text = "".join("ATCGN"[code] for code in codes)
    words = [text[i : i + 16] for i in range(len(text) - 15)]
    words = [min(word, word.translate(COMPLEMENT)[::-1]) for word in words]
    counts = Counter(words)
    marked = np.zeros(len(text), bool)
    for i, word in enumerate(words):
        if "N" not in word and counts[word] >= 10:
            marked[i : i + 16] = True
    return marked


def sequence():
    """Random bases with nine copies of one word and ten of another, some on the other strand, a
    simple repeat, and unknown bases."""
    rng = np.random.default_rng(1)
    nine, ten = rng.integers(0, 4, 20), rng.integers(0, 4, 16)
    parts = [rng.integers(0, 4, 200)]
    for copy in range(10):
        parts += [nine if copy else [4], rng.integers(0, 4, 30)]
        parts += [ten if copy % 3 else (ten ^ 1)[::-1], rng.integers(0, 4, 30 + copy)]
    return np.concatenate([*parts, np.zeros(40), [4, 4], np.zeros(12)]).astype(np.uint8)


@pytest.mark.parametrize("chunk", [1 << 24, 50])
@pytest.mark.parametrize("part", [1 << 25, 20])
@pytest.mark.parametrize("counter_bits", [30, 4])
def test_equals_counting_words_as_text(chunk, part, counter_bits, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    monkeypatch.setattr(module, "_PART", part)
    monkeypatch.setattr(module, "_MAX_COUNTER_BITS", counter_bits)
    codes = sequence()
    wanted = slow_repeats(codes)
    assert wanted.sum() == 10 * 16 + 40
    assert np.array_equal(Repeats(find_repeats(codes)).holds(0, len(codes)), wanted)


def test_any_part_can_be_asked_for():
    codes = sequence()
    repeats = Repeats(find_repeats(codes))
    whole = repeats.holds(0, len(codes))
    for start in range(0, len(codes) - 40, 7):
        assert np.array_equal(repeats.holds(start, 33), whole[start : start + 33])


def test_human_dna(genome, monkeypatch):
    """In 200,000 bases of human DNA."""
    codes = np.array(genome.codes[1_000_000:1_200_000])
    assert np.array_equal(Repeats(find_repeats(codes)).holds(0, len(codes)), slow_repeats(codes))


def test_is_cached_in_the_store(genome, tmp_path, monkeypatch):
    store = replace(genome, path=tmp_path, codes=sequence())
    wanted = slow_repeats(store.codes)
    assert np.array_equal(genome_repeats(store).holds(0, len(wanted)), wanted)
    with monkeypatch.context() as patch:
        patch.setattr(module, "find_repeats", None)  # they are not looked for again
        assert np.array_equal(genome_repeats(store).holds(0, len(wanted)), wanted)
    (file,) = (tmp_path / "repeats").iterdir()
    file.write_bytes(b"damaged")
    assert np.array_equal(genome_repeats(store).holds(0, len(wanted)), wanted)


def test_pmi_outside_repeats(genome, tmp_path, monkeypatch):
    """As if each base in a repeat were unknown."""
    monkeypatch.setattr("cmgems.difficulty.genome_counts._CHUNK", 1000)
    codes = np.array(genome.codes[1_000_000:1_100_000])
    store = replace(genome, path=tmp_path, codes=codes)
    table = compute_pmi_table(store, 3, min_count=2, skip_repeats=True)
    assert table.skips_repeats
    codes = np.where(slow_repeats(codes), np.uint8(4), codes)
    assert np.array_equal(table.counts, count_words(codes, 3).tables[-1])
    assert not np.array_equal(table.rank, compute_pmi_table(store, 3, min_count=2).rank)
