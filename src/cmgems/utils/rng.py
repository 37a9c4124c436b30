"""Random numbers as pure functions: the same (seed, purpose, counters) give the same numbers.

No call keeps state for the next. A window, a mask or a choice of strategy depends on its counters
(the number of the sequence in the run, the position of the token, the step) and on the seed, never
on earlier random numbers, on the rank, on the other sequences of the batch or on the device. A
resumed run therefore repeats an uninterrupted one, and so does a run on another number of ranks.

Host side: splitmix64 (Steele, Lea, Flood, OOPSLA 2014). Device side: 32-bit multiply-xorshift
rounds (the constants of Wellons' `triple32`), keyed by 64 bits per sequence, in int32 arithmetic,
which wraps alike on every device.
"""

import zlib

import numpy as np
import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MASK64 = (1 << 64) - 1


def derive_key(seed: int, purpose: str) -> int:
    """A 64-bit key for one purpose ("windows", "masks", ...) of one seed."""
    return _mix(seed * _GOLDEN + zlib.crc32(purpose.encode()))


def generator(seed: int, purpose: str) -> np.random.Generator:
    """A new NumPy generator, in its initial state, for one purpose of one seed."""
    return np.random.Generator(np.random.Philox(key=derive_key(seed, purpose)))


def uniform(key: int, counter: int) -> float:
    """A float in [0, 1) with 53 random bits."""
    return (_mix(key + counter * _GOLDEN) >> 11) * 2.0**-53


def sequence_keys(key: int, numbers: np.ndarray) -> np.ndarray:
    """int32 [B, 2]: the 64-bit keys of all random numbers of the sequences with these numbers."""
    with np.errstate(over="ignore"):
        x = np.uint64(key) + numbers.astype(np.uint64) * np.uint64(_GOLDEN)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return x.view(np.int32).reshape(-1, 2)


def uniform_tensor(keys: Tensor, positions: Tensor, purpose: int) -> Tensor:
    """float32 in [0, 1), a multiple of 2**-24, per pair of key and position.

    Parameters
    ----------
    keys : int32 [..., 2]
        From `sequence_keys`.
    positions : int32, broadcastable against keys[..., 0]
        Position of the token in its sequence.
    purpose : int
        Separates the random numbers that one token needs for different purposes.
    """
    return (_bits(keys, positions, purpose) & 0xFFFFFF) * 2.0**-24


def random_bits(keys: Tensor, positions: Tensor, purpose: int, bits: int) -> Tensor:
    """int32 in [0, 2**bits), bits <= 31, per pair of key and position."""
    return _bits(keys, positions, purpose) & ((1 << bits) - 1)


def _bits(keys: Tensor, positions: Tensor, purpose: int) -> Tensor:
    x = positions * _int32(0x9E3779B1) + keys[..., 0] + _int32(purpose * 0x85EBCA6B)
    x = _round(x, 17, 0xED5AD4BB)
    x = _round(x ^ keys[..., 1], 11, 0xAC4C1B51)
    x = _round(x, 15, 0x31848BAB)
    return x ^ _shift_right(x, 14)


def _round(x: Tensor, shift: int, factor: int) -> Tensor:
    return (x ^ _shift_right(x, shift)) * _int32(factor)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift; the shift of int32 copies the sign."""
    return (x >> bits) & ((1 << (32 - bits)) - 1)


def _int32(value: int) -> int:
    """The signed integer with the same low 32 bits."""
    return (value & 0xFFFFFFFF) - (1 << 32 if value & 0x80000000 else 0)


def _mix(x: int) -> int:
    x &= _MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK64
    return x ^ (x >> 31)


def seed_torch(seed: int, purpose: str) -> None:
    """Seed torch's global generators, where a library uses them (weights, dropout)."""
    torch.manual_seed(derive_key(seed, purpose) >> 1)
