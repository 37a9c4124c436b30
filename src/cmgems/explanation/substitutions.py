"""All substitutions of single bases of a sequence, and what they say of its bases.

`effects_L4` are, of a sequence of L bases, what changes when a base becomes another: float [L, 4]
in the order A T C G, 0 at the base that is there, nan at an unknown base.

M is here the number of substitutions: three for each known base.
"""

from typing import NamedTuple

import numpy as np

from cmgems.genome.alphabet import AMBIGUOUS, BASES


class Substitutions(NamedTuple):
    """M substitutions, in the order of their positions."""

    position_M: np.ndarray  # int64
    base_M: np.ndarray  # int64, the new base code

    def mutants(self, codes_L: np.ndarray, part: slice) -> np.ndarray:
        """uint8 [M, L]: the sequence after each substitution of a part of them."""
        position_M, base_M = self.position_M[part], self.base_M[part]
        mutants_ML = np.tile(codes_L, (len(position_M), 1))
        mutants_ML[np.arange(len(position_M)), position_M] = base_M
        return mutants_ML

    def table(self, codes_L: np.ndarray, change_M: np.ndarray) -> np.ndarray:
        """[L, 4]: the change by each substitution at its position and base; see the module."""
        effects_L4 = np.full((len(codes_L), len(BASES)), np.nan, change_M.dtype)
        known = np.flatnonzero(codes_L < AMBIGUOUS)
        effects_L4[known, codes_L[known]] = 0
        effects_L4[self.position_M, self.base_M] = change_M
        return effects_L4


def substitutions(codes_L: np.ndarray, start: int = 0, end: int | None = None) -> Substitutions:
    """All substitutions of the known bases from `start` to `end` - 1; None: to the last."""
    position_M, base_M = np.nonzero(np.arange(len(BASES)) != codes_L[start:end, None])
    known = codes_L[start:end][position_M] < AMBIGUOUS
    return Substitutions(position_M[known] + start, base_M[known])


def importance(effects_L4: np.ndarray) -> np.ndarray:
    """[L]: the mean loss by the three substitutions of a base; nan at an unknown one."""
    return -effects_L4.sum(1) / (len(BASES) - 1)


def importance_heights(codes_L: np.ndarray, values_L: np.ndarray) -> np.ndarray:
    """[L, 4]: the values at the bases that are there, 0 elsewhere: the letters of a logo."""
    heights_L4 = np.zeros((len(codes_L), len(BASES)))
    known = np.flatnonzero(codes_L < AMBIGUOUS)
    heights_L4[known, codes_L[known]] = values_L[known]
    return heights_L4


def information_heights(probability_L4: np.ndarray) -> np.ndarray:
    """[L, 4]: bits of a distribution against a uniform one, shared out by probability (Schneider
    and Stephens, Nucleic Acids Research 1990); 0 where there is none."""
    p_L4 = np.nan_to_num(probability_L4.astype(np.float64))
    terms_L4 = p_L4 * np.log2(np.where(p_L4 > 0, p_L4 * len(BASES), 1))
    return p_L4 * terms_L4.sum(1, keepdims=True)
