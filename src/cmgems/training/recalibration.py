"""A model's predictions of hidden bases after five numbers are set right.

A model that was trained under other masks than those that it is judged by may know as much and
still be too sure of itself, or expect other bases: q(base) ~ p(base)**a * exp(b of the base), with
a temperature (Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2, as
its inverse a) and a bias per base. They are fitted on some windows and measured on the others.
"""

from typing import NamedTuple

import numpy as np

from cmgems.training.mixture import FOLDS, bits_of_mix, fit_weights, log_chance


class Recalibration(NamedTuple):
    """Bits per base, each with numbers from other windows."""

    bits_H: np.ndarray  # float64
    inverse_temperature: float  # a: below 1 the model was too sure of itself; mean over the folds
    bias_4: tuple[float, ...]  # nats by base, 0 on average


def recalibrate(
    probability_H4: np.ndarray, true_H: np.ndarray, window_H: np.ndarray
) -> Recalibration:
    """Parameters as those of `cmgems.training.mixture.gain_over`."""
    log_H45 = np.zeros((len(true_H), 4, 5))
    log_H45[:, :, 0] = log_chance(probability_H4)
    log_H45[:, :, 1:] = np.eye(4)
    bits_H, numbers = np.empty(len(true_H)), []
    for fold in range(FOLDS):
        held_out_H = window_H % FOLDS == fold
        fitted = fit_weights(log_H45[~held_out_H], true_H[~held_out_H])
        bits_H[held_out_H] = bits_of_mix(log_H45[held_out_H], fitted, true_H[held_out_H])
        numbers.append(fitted)
    inverse_temperature, *bias_4 = np.mean(numbers, axis=0).tolist()
    return Recalibration(bits_H, inverse_temperature, tuple(bias_4))
