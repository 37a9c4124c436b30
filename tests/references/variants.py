"""Slow, obvious scores of bases and variants, on text."""

import math

import torch

from cmgems.genome.alphabet import BASES
from cmgems.models.layouts import SequenceLayout
from cmgems.tokenization import OverlappingKmers
from cmgems.tokenization.base import CLS, MASK, SEP

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def slow_distribution(model, text, place, k=3):
    """p(A), p(T), p(C), p(G) at a place: mask what overlaps, sum k-mers by their base, average."""
    vocabulary = OverlappingKmers(k).vocabulary
    ids = {token: n for n, token in enumerate(vocabulary)}
    over = [t for t in range(len(text) - k + 1) if t <= place < t + k]
    tokens = [MASK if t in over else ids[text[t : t + k]] for t in range(len(text) - k + 1)]
    row = torch.tensor([CLS, *tokens, SEP])
    at = torch.tensor(over) + 1
    with torch.no_grad():
        logits = model(row, SequenceLayout.of((len(row),)), at)
    total = dict.fromkeys(BASES, 0.0)
    for t, its in zip(over, logits[:, 5:].softmax(1), strict=True):
        for kmer, share in zip(vocabulary[5:], its.tolist(), strict=True):
            total[kmer[place - t]] += share / len(over)
    return [total[base] for base in BASES]


def slow_log_likelihood(model, text, places):
    """The sum over these places of ln p(base | all others)."""
    return sum(math.log(slow_distribution(model, text, p)[BASES.index(text[p])]) for p in places)


def leftmost(contig, pos, ref, alt):
    """Of all ways to write the same change, the shortest, and of these the one furthest left:
    start (from 0), reference allele, alternative."""
    changed = contig[: pos - 1] + alt + contig[pos - 1 + len(ref) :]
    for old_size in range(len(ref) + 1):
        new_size = old_size + len(alt) - len(ref)
        for start in range(len(contig) - old_size + 1):
            new = changed[start : start + max(new_size, 0)]
            if contig[:start] + new + contig[start + old_size :] == changed:
                return start, contig[start : start + old_size], new
    raise ValueError("no way to write it")


def slow_variant_score(model, contig, variant, window, flank, both_strands):
    """The change of the likelihood of the bases around a variant, far from the contig's ends."""
    start, ref, alt = leftmost(contig, *variant)
    longer = max(len(ref), len(alt))
    left = (window - longer + 1) // 2
    first = start - left
    old = contig[first : first + window]
    new = (contig[first:start] + alt + contig[start + len(ref) :])[:window]
    places = [p for p in range(window) if left - flank <= p < left + longer + flank]
    scores = [slow_log_likelihood(model, new, places) - slow_log_likelihood(model, old, places)]
    if both_strands:
        mirrored = [window - 1 - p for p in places]
        old, new = (text.translate(COMPLEMENT)[::-1] for text in (old, new))
        forward = scores[0]
        reverse = slow_log_likelihood(model, new, mirrored)
        scores = [forward, reverse - slow_log_likelihood(model, old, mirrored)]
    return sum(scores) / len(scores)
