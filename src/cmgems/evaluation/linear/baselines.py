"""What a task gives away without any pretraining: logistic regression on counts and on bases.

`kmer_baseline`    counts of k-mers, wherever they are; k is chosen on the training examples
`one_hot_baseline` the base at each position, counted from the middle of the sequence
`gc_baseline`      the fraction of G and C, alone

A task that these solve says little about pretraining. Features are scaled so that a sequence has
length 1 (for counts: the normalised spectrum kernel of Leslie et al., Pacific Symposium on
Biocomputing 2002), so that the same strengths of the penalty fit all of them.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.preprocessing import normalize

from cmgems.evaluation.linear.models import (
    MANY_EXAMPLES,
    Target,
    best_strength,
    choose_strength,
    fit,
    make_folds,
    predict,
    sample_for_selection,
    validated_loss,
)
from cmgems.tasks.dataset import LabelledSequences
from cmgems.utils.kernels import kernel

K_CHOICES = (1, 2, 3, 4, 5, 6)
FIRST_STRENGTHS = (1.0, 10.0)  # with which k is chosen where there are many examples


class Prediction(NamedTuple):
    """What a baseline predicts of the test examples."""

    logits: np.ndarray  # as `evaluation.metrics.score` takes them
    chosen: dict[str, float]  # on the training examples: k, length, strength


class KmerChoice(NamedTuple):
    """What `kmer_baseline` chooses."""

    k: int
    strength: float


def kmer_counts(data: LabelledSequences, k: int, strands: int = 1) -> sparse.csr_matrix:
    """float64 [N, 4**k]: how often each k-mer is in each sequence; one with N is not counted.

    With two strands, in the sequence and in its reverse complement together.

    Columns are k-mer indices (`cmgems.tokenization.kmers`): base order A T C G, the first base
    highest.
    """
    words = np.empty(len(data.codes), np.int64)
    ends = np.empty(len(data), np.int64)
    _kmer_indices(data.codes, data.offsets, k, words, ends)
    rows = sparse.csr_matrix(
        (np.ones(ends[-1] if len(ends) else 0), words[: ends[-1]], np.concatenate([[0], ends])),
        shape=(len(data), 4**k),
    )
    rows.sum_duplicates()
    return rows if strands == 1 else rows + kmer_counts(data.reverse_complement(), k)


@kernel
def _kmer_indices(
    codes: np.ndarray, offsets: np.ndarray, k: int, words: np.ndarray, ends: np.ndarray
) -> None:
    """Fill in the k-mer indices of all sequences, concatenated, and where each sequence ends."""
    mask = (np.int64(1) << np.int64(2 * k)) - 1
    filled = 0
    for i in range(len(offsets) - 1):
        word, known = np.int64(0), 0
        for position in range(offsets[i], offsets[i + 1]):
            if codes[position] > 3:
                known = 0
                continue
            word = (word << 2 | np.int64(codes[position])) & mask
            known += 1
            if known >= k:
                words[filled] = word
                filled += 1
        ends[i] = filled


def one_hot(data: LabelledSequences, length: int) -> sparse.csr_matrix:
    """float64 [N, 4 * length]: which base is at each position; N is none.

    Sequences are aligned at their middles; what is beyond `length` bases is cut off at both ends.
    """
    lengths = data.lengths
    owner = np.repeat(np.arange(len(data)), lengths)
    shift = (length // 2 - lengths // 2)[owner]
    position = np.arange(len(data.codes)) - data.offsets[owner] + shift
    known = (position >= 0) & (position < length) & (data.codes < 4)
    columns = 4 * position[known] + data.codes[known]
    shape = (len(data), 4 * length)
    return sparse.csr_matrix((np.ones(len(columns)), (owner[known], columns)), shape=shape)


def kmer_baseline(
    train: LabelledSequences,
    test: LabelledSequences,
    kind: str,
    classes: int,
    seed: int = 0,
    strands: int = 1,
) -> Prediction:
    """Logistic regression on k-mer counts; k and the penalty chosen by cross-validation.

    Parameters
    ----------
    train, test : examples
    kind, classes : of the task
    seed : of the folds
    strands : 2: k-mers are counted on both
    """
    target = Target(train.labels, kind, classes)
    k, strength = choose_k(train, target, seed, strands)
    model = fit(normalize(kmer_counts(train, k, strands)), target, strength)
    logits = predict(model, normalize(kmer_counts(test, k, strands)))
    return Prediction(logits, {"k": k, "strength": strength})


def choose_k(train: LabelledSequences, target: Target, seed: int, strands: int = 1) -> KmerChoice:
    """k and strength with the least validated loss on (some of) the training examples."""
    part = sample_for_selection(target, seed)
    train, target = train.select(part), target.select(part)
    fold = make_folds(target, seed)
    tables = {
        k: normalize(kmer_counts(train, k, strands)) for k in K_CHOICES if k <= train.lengths.max()
    }
    if len(train) < MANY_EXAMPLES:
        choices = {k: best_strength(table, target, fold) for k, table in tables.items()}
        k = min(choices, key=lambda k: choices[k].loss)
        return KmerChoice(k, choices[k].strength)
    # Where a fit takes long, k is chosen first, then the strength.
    losses = {
        (k, strength): validated_loss(table, target, strength, fold)
        for k, table in tables.items()
        for strength in FIRST_STRENGTHS
    }
    k, _ = min(losses, key=lambda choice: losses[choice])
    return KmerChoice(k, best_strength(tables[k], target, fold).strength)


def one_hot_baseline(
    train: LabelledSequences, test: LabelledSequences, kind: str, classes: int, seed: int = 0
) -> Prediction:
    """Logistic regression on the base at each position; the penalty chosen by cross-validation.

    Parameters as for `kmer_baseline`. The positions are those of the longest training sequence.
    """
    length = int(train.lengths.max())
    table = normalize(one_hot(train, length))
    target = Target(train.labels, kind, classes)
    strength = choose_strength(table, target, seed)
    model = fit(table, target, strength)
    logits = predict(model, normalize(one_hot(test, length)))
    return Prediction(logits, {"length": length, "strength": strength})


def gc_content(data: LabelledSequences) -> np.ndarray:
    """float64 [N]: the fraction of G and C among the known bases; 1/2 where none is known."""
    counts = kmer_counts(data, 1).toarray()  # of A T C G
    known = counts.sum(1)
    return np.where(known, counts[:, 2:].sum(1) / np.maximum(known, 1), 0.5)


def gc_baseline(
    train: LabelledSequences, test: LabelledSequences, kind: str, classes: int, seed: int = 0
) -> Prediction:
    """Logistic regression on GC content, scaled to deviation 1; parameters as for `kmer_baseline`.

    The penalty is chosen by cross-validation.
    """
    fractions = gc_content(train)
    mean, deviation = fractions.mean(), fractions.std() or 1.0
    table = (fractions[:, None] - mean) / deviation
    target = Target(train.labels, kind, classes)
    strength = choose_strength(table, target, seed)
    model = fit(table, target, strength)
    logits = predict(model, (gc_content(test)[:, None] - mean) / deviation)
    return Prediction(logits, {"strength": strength})


# name in tables -> function
BASELINES = {
    "k-mer counts": kmer_baseline,
    "one-hot bases": one_hot_baseline,
    "GC content": gc_baseline,
}
