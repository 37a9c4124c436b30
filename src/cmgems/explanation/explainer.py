"""What explains a sequence: the contract of `of_classifier` and `of_language_model`."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np

from cmgems.tokenization import Tokenization


class Explanation(NamedTuple):
    """What is said of one sequence of L bases; see `cmgems.explanation.substitutions`."""

    codes: np.ndarray  # uint8 [L], base codes
    score: float  # of the sequence as it is, in the unit of the explainer
    effects: np.ndarray  # [L, 4]
    # [L, 4]: the first-order estimate of `effects`, from a gradient
    gradients: np.ndarray | None = None
    # [L, 4]: the model's distribution of each base, hidden; nan at one that has none
    probabilities: np.ndarray | None = None
    # [S, S], of the middle S bases: how the distribution of the second answers to the first
    dependencies: np.ndarray | None = None
    # [A, H, S, S], of the middle S bases: see `cmgems.explanation.attention`
    attention: np.ndarray | None = None


class Explainer(ABC):
    """A model on a device.

    Attributes
    ----------
    tokenization : Tokenization
    max_bases : of the longest sequence that the model reads at once
    effect : what a substitution changes, with its unit
    logo : what the heights of a logo's letters are
    unit : of them
    """

    tokenization: Tokenization
    max_bases: int
    effect: str
    logo: ClassVar[str]
    unit: str

    @abstractmethod
    def explain(self, codes_L: np.ndarray) -> Explanation:
        """Explain a sequence of `tokenization.min_bases` to `max_bases` bases."""

    @staticmethod
    @abstractmethod
    def heights(explanation: Explanation) -> np.ndarray:
        """float64 [L, 4]: the letters of its logo."""
