"""Frozen hidden states and k-mer counts in one linear model: do the states know more than counts?

The two blocks of features differ in number and in how much of each is noise, so that no one penalty
suits both. Each block gets the penalty that suits it alone, up to a factor that both share: a block
that is multiplied by sqrt(C) and penalized with strength 1 is the block penalized with strength C.
"""

import numpy as np
from scipy import sparse
from sklearn.preprocessing import normalize

from cmgems.evaluation.linear.baselines import Prediction, choose_k, kmer_counts
from cmgems.evaluation.linear.models import Features, Target, choose_strength, fit, predict
from cmgems.evaluation.linear.probe import standardize
from cmgems.tasks.dataset import LabelledSequences

# The shared factor. Below 1 mostly: what both blocks say needs smaller weights in each.
FACTORS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def states_beside_counts(
    states: tuple[np.ndarray, np.ndarray],
    train: LabelledSequences,
    test: LabelledSequences,
    target: Target,
    seed: int = 0,
) -> Prediction:
    """Logistic regression on hidden states (as `probe` has them) and k-mer counts (as
    `kmer_baseline`), side by side.

    Whatever is chosen (k, the penalty of each block, their factor) is chosen by cross-validation on
    the training examples.

    Parameters
    ----------
    states : float [N, D] of the training and [M, D] of the test examples
    train, test : the examples
    target : of the training examples
    seed : of the folds
    """
    own_train, own_test = standardize(*states)
    strength = choose_strength(own_train, target, seed)
    k, counts_strength = choose_k(train, target, seed)

    def beside(own: np.ndarray, data: LabelledSequences) -> Features:
        counts = normalize(kmer_counts(data, k))
        return sparse.hstack([np.sqrt(strength) * own, np.sqrt(counts_strength) * counts], "csr")

    table = beside(own_train, train)
    factor = choose_strength(table, target, seed, FACTORS)
    logits = predict(fit(table, target, factor), beside(own_test, test))
    chosen = {
        "k": k,
        "strength": factor * strength,
        "counts_strength": factor * counts_strength,
    }
    return Prediction(logits, chosen)
