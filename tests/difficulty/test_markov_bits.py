"""Bits of k-mers by the Markov model, against a slow and obvious reference."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from cmgems.difficulty import markov_bits as module
from cmgems.difficulty.markov import count_stretches, fit, longest_word
from cmgems.difficulty.markov_bits import genome_markov_bits, markov_bits
from cmgems.genome.spans import unambiguous_spans


def slow_bits(codes, k):
    """Mean bits per base of each k-mer: every base after the `order` before it, its own word left
    out of the counts of each order, interpolated with the weights that fit best."""
    stretches = "".join(".ATCG"[code + 1 if code < 4 else 0] for code in codes).split(".")
    counts = [Counter(s[i : i + n] for s in stretches for i in range(len(s) - n + 1))
              for n in range(1, 13)]  # fmt: skip
    length = sum(map(len, stretches))
    words = longest_word(length)

    def left_out(word, weights):
        if len(word) == 1:
            return counts[0][word] / length
        below = max(left_out(word[1:], weights), 1e-6)
        total = sum(counts[len(word) - 1][word[:-1] + base] for base in "ATCG")
        weight = weights[len(word) - 2]
        return (counts[len(word) - 1][word] - 1 + weight * below) / (total - 1 + weight)

    def mean_bits(n, weights):
        table = counts[n - 1]
        return -sum(c * math.log2(left_out(w, weights)) for w, c in table.items()) / sum(
            table.values()
        )

    weights, by_order = [], [mean_bits(1, [])]
    for n in range(2, words + 1):
        best = min((4.0**i for i in range(7)), key=lambda a: mean_bits(n, [*weights, a]))
        weights.append(best)
        by_order.append(mean_bits(n, weights))
    order = by_order.index(min(by_order))
    found = defaultdict(list)
    for s in stretches:
        for i in range(order, len(s) - k + 1):
            bits = [-math.log2(left_out(s[j - order : j + 1], weights)) for j in range(i, i + k)]
            found[s[i : i + k]].append(sum(bits) / k)
    everything = [bits for several in found.values() for bits in several]
    return order, {kmer: np.mean(several) for kmer, several in found.items()}, np.mean(everything)


@pytest.mark.parametrize("chunk", [1 << 22, 37])
def test_equals_the_slow_reference(chunk, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    rng = np.random.default_rng(0)
    motif = rng.integers(0, 4, 40)
    parts = [rng.integers(0, 2, 150), motif, [4], motif, rng.integers(0, 4, 80), [4, 4], motif]
    codes = np.concatenate(parts).astype(np.uint8)
    order, wanted, mean = slow_bits(codes, 3)
    spans = unambiguous_spans(codes)
    assert fit(count_stretches(codes, [spans], longest_word(spans.bases))).order == order > 0
    bits_V = markov_bits(codes, spans, 3)
    for index, bits in enumerate(bits_V):
        kmer = "".join("ATCG"[index >> 2 * (2 - i) & 3] for i in range(3))
        assert bits == pytest.approx(wanted.get(kmer, mean), rel=1e-4), kmer


def test_the_words_of_repeats_are_easy(genome):
    """In human DNA poly-A costs less than the mean, and CG, which mutates away, costs most."""
    bits_V = markov_bits(genome.codes[:400_000], unambiguous_spans(genome.codes[:400_000]), 3)
    names = ["".join("ATCG"[i >> 2 * (2 - j) & 3] for j in range(3)) for i in range(64)]
    bits = dict(zip(names, bits_V, strict=True))
    assert bits["AAA"] < np.mean(bits_V) - 0.2
    assert all("CG" in name for name in sorted(bits, key=bits.get)[-4:])


def test_is_cached_in_the_store(genome, tmp_path, monkeypatch):
    from dataclasses import replace

    store = replace(genome, path=tmp_path, codes=genome.codes[:50_000])
    first = genome_markov_bits(store, 3)
    monkeypatch.setattr(module, "markov_bits", None)  # it is not computed again
    assert np.array_equal(genome_markov_bits(store, 3), first)
    (file,) = (tmp_path / "markov").iterdir()
    file.write_bytes(b"damaged")
    monkeypatch.undo()
    assert np.array_equal(genome_markov_bits(store, 3), first)
