"""Duplicates as found by looking at every pair; DNA of pretraining as found by searching text."""

import numpy as np
import pytest
from helpers.labelled_samples import random_sequences
from sklearn.metrics import roc_auc_score

from cmgems.genome.alphabet import encode_bases
from cmgems.genome.spans import Spans
from cmgems.tasks.audit import LengthRange, audit_splits, audit_table, count_pretraining_overlap
from cmgems.tasks.dataset import from_sequences
from cmgems.tasks.duplicates import containment, find_duplicates, kmer_sets, nearest_jaccard
from cmgems.tasks.shortcuts import find_shortcuts

OTHER = str.maketrans("ACGT", "TGCA")


def reverse(text):
    return text.translate(OTHER)[::-1]


def canonical_set(text, k):
    words = [text[i : i + k] for i in range(len(text) - k + 1)]
    return {min(w, reverse(w)) for w in words if "N" not in w}


def jaccard(a, b):
    return len(a & b) / len(a | b) if a | b else 0.0


@pytest.fixture(scope="module")
def splits():
    """A test split of which the first ones are in training: as they are, on the other strand, with
    a substitution, shifted; and sequences with repeats and N."""
    train = [*random_sequences(40, 70, seed=1), "AC" * 35, "N" * 70]
    test = random_sequences(10, 70, seed=2)
    test[0] = train[3]
    test[1] = reverse(train[4])
    test[2] = train[5][:35] + reverse(train[5][35]) + train[5][36:]
    test[3] = reverse(train[6][8:] + test[3][:8])
    test[4] = "ACACACACACAC" + test[4][12:]
    test[5] = "N" * 70
    return (
        from_sequences(train, np.arange(len(train)) % 2),
        from_sequences(test, np.array([1, 1, 1, 0, 1, 0, 1, 0, 1, 0])),
    )


@pytest.mark.parametrize("k", [3, 8, 12])
def test_nearest_equals_a_look_at_every_pair(splits, k):
    train, test = splits
    sets = [canonical_set(train.text(i), k) for i in range(len(train))]
    expected = [
        max(jaccard(canonical_set(test.text(i), k), found) for found in sets)
        for i in range(len(test))
    ]
    assert nearest_jaccard(train, test, k) == pytest.approx(expected, abs=1e-6)


def test_kmer_sets_are_distinct(splits):
    train, _ = splits
    words, ends = kmer_sets(train, 4)
    for i, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        assert len(set(words[start:end].tolist())) == end - start
        assert end - start == len(canonical_set(train.text(i), 4))


def test_each_kind_of_duplicate_is_counted_once(splits):
    train, test = splits
    found = find_duplicates(train, test)
    assert found.k == 12
    assert np.flatnonzero(found.exact).tolist() == [0, 5]
    assert np.flatnonzero(found.reverse).tolist() == [1]
    assert np.flatnonzero(found.near).tolist() == [2, 3]
    assert found.any.sum() == 5
    assert find_duplicates(train, test, near=0.9).near.sum() == 0


def test_the_audit_and_its_table(splits):
    train, test = splits
    found = audit_splits(train, test, ("no", "yes"))
    assert (found.exact, found.reverse, found.near) == (2, 1, 2)
    assert found.conflicts == 2  # test[1] is of train[4], label 0, and all N have label 1
    assert (found.repeated_in_train, found.repeated_in_test) == (0, 0)
    assert found.class_fractions == {"no": (0.5, 0.4), "yes": (0.5, 0.6)}
    assert found.lengths["test"] == LengthRange(70, 70, 70)
    assert found.majority == 0.4
    text = audit_table(found)
    assert "test identical to train            2 of 10 (20.00 %)" in text
    assert "near duplicate in train (12-mers)  2 of 10 (20.00 %)" in text
    assert f"AUROC of GC content alone          {found.shortcuts.gc:.4f}\n" in text


def test_lengths_that_give_the_class_away():
    generator = np.random.default_rng(0)

    def split(seed):
        labels = np.arange(200) % 2
        sizes = generator.integers(40, 60, 200) + 30 * labels
        found = [random_sequences(1, int(n), seed=seed + i)[0] for i, n in enumerate(sizes)]
        return from_sequences(found, labels)

    found = audit_splits(split(0), split(1000), ("short", "long"))
    assert found.length_accuracy == 1.0
    assert found.majority == 0.5


def test_what_single_numbers_give_away():
    """GC content, length and one position, each planted in one of three classes, with the areas
    that scikit-learn finds when the numbers are made by hand."""
    generator = np.random.default_rng(3)

    def split(count, seed):
        labels = generator.integers(0, 3, count)
        found = []
        for number, label in enumerate(labels):
            size = int(generator.integers(40, 60)) + 8 * (label == 1)
            (text,) = random_sequences(1, size, seed=seed + number)
            if label == 0 and number % 2:
                text = text.replace("A", "G")
            if label == 2 and number % 4:
                text = text[: size // 2 + 3] + "T" + text[size // 2 + 4 :]
            found.append(text)
        return found, from_sequences(found, labels)

    (_, train), (texts, test) = split(300, 0), split(200, 1000)
    shortcuts = find_shortcuts(train, test, 3)

    def area(numbers):
        return np.array([roc_auc_score(test.labels == label, numbers) for label in range(3)])

    gc = area([(text.count("G") + text.count("C")) / len(text) for text in texts])
    length = area([len(text) for text in texts])
    assert shortcuts.gc == pytest.approx(np.maximum(gc, 1 - gc).mean())
    assert shortcuts.length == pytest.approx(np.maximum(length, 1 - length).mean())
    assert gc[0] > 0.7
    assert length[1] > 0.8
    assert shortcuts.where == "T at +3"
    last = area([text[len(text) // 2 + 3] == "T" for text in texts])[2]
    assert last > 0.75
    assert shortcuts.position > (last + 2 * 0.45) / 3
    two = from_sequences(texts, (test.labels == 2).astype(np.int64))
    assert find_shortcuts(two, two, 2).position == pytest.approx(last)
    assert find_shortcuts(test, test, 0) is None


def test_the_dna_of_pretraining_is_found_on_both_strands():
    (text,) = random_sequences(1, 5000, seed=9)
    text = f"{text[:2000]}N{text[2001:]}"
    codes = encode_bases(text)
    spans = Spans(np.array([0, 3000]), np.array([2500, 5000]))
    half = text[100:135] + random_sequences(1, 35, seed=10)[0]
    found = [
        text[100:170],
        reverse(text[3000:3070]),
        text[2600:2670],  # between the spans
        text[2470:2540],  # over the edge of one
        half,
        text[1960:2040].replace("N", "A"),  # over a base that is not known there
        random_sequences(1, 70, seed=11)[0],
        "N" * 70,
    ]
    test = from_sequences(found, np.array([0, 1] * 4))
    k = 24
    inside = set()
    for start, end in zip(*spans, strict=True):
        inside |= canonical_set(text[start:end], k)
    expected = [
        len(canonical_set(s, k) & inside) / len(canonical_set(s, k)) if s != "N" * 70 else np.nan
        for s in found
    ]
    assert containment(codes, spans, test) == pytest.approx(expected, nan_ok=True)
    assert expected[:3] == [1.0, 1.0, 0.0]
    one = audit_splits(test, test, ("0", "1"))
    seen = count_pretraining_overlap(one, codes, spans, test)
    assert (one.seen, seen.seen) == (None, 2)
    assert "test in the pretraining DNA" in audit_table(seen)
    assert "pretraining" not in audit_table(one)


def test_sequences_shorter_than_the_words_of_a_genome():
    (text,) = random_sequences(1, 3000, seed=12)
    found = [text[10:26], reverse(text[500:516]), random_sequences(1, 16, seed=13)[0], "ACGT"]
    test = from_sequences(found, np.array([0, 1, 0, 1]))
    share = containment(encode_bases(text), Spans(np.array([0]), np.array([3000])), test)
    assert share.tolist() == pytest.approx([1.0, 1.0, 0.0, np.nan], nan_ok=True)
