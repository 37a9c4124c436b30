"""What a model of hidden bases adds to another one: both, mixed in proportion to trust.

The mix is log-linear, q(base) ~ model(base)**a * other(base)**b, normalized over the four bases (a
product of experts; Heskes, "Selecting weighting factors in logarithmic opinion pools", NeurIPS
1997). Its two weights are fitted on some windows and measured on the others, so that a model that
knows nothing gains nothing. The gain is counted from the other model with a weight of its own,
fitted in the same way: without it, any model could seem to add something just by making an
overconfident one less so.
"""

from typing import NamedTuple

import numpy as np

FOLDS = 5
_LEAST = 1e-6  # probability, below which a model cannot be wrong any worse
_NEWTON_STEPS = 50  # it takes less than ten


class Gain(NamedTuple):
    """Bits per base that a mix saves, each base measured with weights from other windows."""

    bits_H: np.ndarray  # float64: of the other model with its weight, less those of the mix
    model_weight: float  # means over the folds
    other_weight: float


def gain_over(
    model_H4: np.ndarray, other_H4: np.ndarray, true_H: np.ndarray, window_H: np.ndarray
) -> Gain:
    """What the model adds to the other one.

    Parameters
    ----------
    model_H4, other_H4 : float [H, 4], distributions of each base; each row sums to 1
    true_H : int [H], the true base, 0 .. 3
    window_H : int [H], the number of the window of each base: windows are not parted by folds
    """
    log_H4P = np.stack([log_chance(model_H4), log_chance(other_H4)], axis=2)
    bits_H, weights = np.empty(len(true_H)), []
    for fold in range(FOLDS):
        held_out_H = window_H % FOLDS == fold
        mix = fit_weights(log_H4P[~held_out_H], true_H[~held_out_H])
        alone = fit_weights(log_H4P[~held_out_H, :, 1:], true_H[~held_out_H])
        rest_H4P, rest_H = log_H4P[held_out_H], true_H[held_out_H]
        bits_alone_H = bits_of_mix(rest_H4P[:, :, 1:], alone, rest_H)
        bits_H[held_out_H] = bits_alone_H - bits_of_mix(rest_H4P, mix, rest_H)
        weights.append(mix)
    model_weight, other_weight = np.mean(weights, axis=0).tolist()
    return Gain(bits_H, model_weight, other_weight)


def fit_weights(log_H4P: np.ndarray, true_H: np.ndarray) -> np.ndarray:
    """float64 [P]: the weights of P models with which their mix predicts the true bases best.

    The likelihood is concave in them: Newton's method, its steps halved where they overshoot, with
    a little regularization towards 0 for models that never differ. No bases: all weights are 0.
    """
    models = log_H4P.shape[2]
    weights = np.zeros(models)
    bits = _loss(log_H4P, weights, true_H)
    for _ in range(_NEWTON_STEPS):
        chance_H4 = _mix(log_H4P, weights)
        weighted_H4P = chance_H4[:, :, None] * log_H4P
        mean_HP = np.add.reduce([weighted_H4P[:, base] for base in range(4)])
        true_HP = log_H4P[np.arange(len(true_H)), true_H]
        gradient = (mean_HP - true_HP).sum(0) + 2e-3 * weights
        both_PP = weighted_H4P.reshape(-1, models).T @ log_H4P.reshape(-1, models)
        curvature = both_PP - mean_HP.T @ mean_HP
        step = np.linalg.solve(curvature + 2e-3 * np.eye(models), gradient)
        while (after := _loss(log_H4P, weights - step, true_H)) > bits and abs(step).max() > 1e-9:
            step /= 2
        weights, gained, bits = weights - step, bits - after, after
        if gained < 1e-9 * max(len(true_H), 1):
            break
    return weights


def log_chance(chance_H4: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(chance_H4, _LEAST, dtype=np.float64))


def _mix(log_H4P: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float64 [H, 4]: the mixed distributions."""
    # One product: numpy is far slower matrix by matrix.
    score_H4 = (log_H4P.reshape(-1, len(weights)) @ weights).reshape(-1, 4)
    score_H4 -= score_H4.max(1, keepdims=True, initial=-np.inf)
    chance_H4 = np.exp(score_H4)
    return chance_H4 / chance_H4.sum(1, keepdims=True)


def bits_of_mix(log_H4P: np.ndarray, weights: np.ndarray, true_H: np.ndarray) -> np.ndarray:
    return -np.log2(_mix(log_H4P, weights)[np.arange(len(true_H)), true_H])


def _loss(log_H4P: np.ndarray, weights: np.ndarray, true_H: np.ndarray) -> float:
    """What `fit_weights` minimizes: nats and the regularization."""
    nats = bits_of_mix(log_H4P, weights, true_H).sum() * np.log(2)
    return float(nats + 1e-3 * weights @ weights)
