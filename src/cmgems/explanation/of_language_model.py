"""A language model's distributions: of each base, hidden, and how they answer to changes elsewhere.

The effect of a substitution is ln p(new base) - ln p(base), the base hidden and all others shown:
what `cmgems score --flank 0 --strands forward` gives for that variant.

A dependency of base j on base i is the largest change of the log-odds of any base at j, in bits, by
any substitution at i, j hidden (Tomaz da Silva et al., bioRxiv 2024.07.27.605418, who show j).
"""

from typing import ClassVar

import numpy as np

from cmgems.errors import UserError
from cmgems.explanation.attention import attention_maps, check_attention
from cmgems.explanation.explainer import Explainer, Explanation
from cmgems.explanation.substitutions import information_heights, substitutions
from cmgems.genome.alphabet import AMBIGUOUS, BASES
from cmgems.inference.likelihood import TOKENS_PER_BATCH, base_distribution, scorable_bases
from cmgems.models.encoder import MaskedLanguageModel
from cmgems.tokenization import Tokenization

_LEAST = 1e-6  # of a probability, so that no odds are infinite


class LanguageModelExplainer(Explainer):
    """A language model.

    Parameters
    ----------
    dependencies : how many bases in the middle of a sequence have their dependencies computed;
        0: none. They cost three passes for each pair of bases.
    attention : how many have their attention to each other; 0: none

    Raises
    ------
    UserError
        If its tokens say nothing of single bases, or it has no attention that is asked for.
    """

    logo: ClassVar[str] = "information of the distribution of each base, hidden"

    def __init__(
        self,
        model: MaskedLanguageModel,
        tokenization: Tokenization,
        dependencies: int = 0,
        attention: int = 0,
    ) -> None:
        if not tokenization.has_base_probabilities:
            raise UserError(
                f"found {tokenization.description}, which give no distribution of a single base; "
                f"wanted a model of k-mers or single bases, or a classifier"
            )
        if attention:
            check_attention(model.encoder)
        self._model, self.tokenization, self._span = model, tokenization, dependencies
        self._attention = attention
        self.max_bases = tokenization.max_bases(model.encoder.config.max_position_embeddings)
        self.unit = "bits"
        self.effect = "ln p(new base) - ln p(base), the base hidden"

    def explain(self, codes_L: np.ndarray) -> Explanation:
        known_L = scorable_bases(codes_L[None], self.tokenization)[0]
        position_R = np.flatnonzero(known_L)
        windows_RL = np.broadcast_to(codes_L, (len(position_R), len(codes_L)))
        p_L4 = np.full((len(codes_L), len(BASES)), np.nan)
        p_L4[position_R] = self._distribution(windows_RL, position_R)
        own_L1 = np.minimum(codes_L, AMBIGUOUS - 1)[:, None].astype(np.int64)
        effects_L4 = np.log(p_L4) - np.log(np.take_along_axis(p_L4, own_L1, 1))
        likelihood = float(np.log(p_L4[position_R, codes_L[position_R]]).sum())
        maps = self._dependencies(codes_L, p_L4) if self._span else None
        attention = None
        if self._attention:
            encoder = self._model.encoder
            attention = attention_maps(encoder, self.tokenization, codes_L, self._attention)
        return Explanation(codes_L, likelihood, effects_L4, None, p_L4, maps, attention)

    @staticmethod
    def heights(explanation: Explanation) -> np.ndarray:
        assert explanation.probabilities is not None
        return information_heights(explanation.probabilities)

    def _distribution(self, windows_RL: np.ndarray, position_R: np.ndarray) -> np.ndarray:
        """float64 [R, 4]: see `base_distribution`; a batch at a time."""
        p_R4 = np.empty((len(position_R), len(BASES)))
        step = max(1, TOKENS_PER_BATCH // windows_RL.shape[1])
        for start in range(0, len(position_R), step):
            part = slice(start, start + step)
            windows = np.ascontiguousarray(windows_RL[part])
            found = base_distribution(self._model, self.tokenization, windows, position_R[part])
            p_R4[part] = found.numpy()
        return p_R4

    def _dependencies(self, codes_L: np.ndarray, p_L4: np.ndarray) -> np.ndarray:
        """float64 [S, S]: base of the row -> base of the column; 0 on the diagonal, nan where a
        base is unknown. S is the number of bases that was asked for, or L where that is less."""
        span = min(self._span, len(codes_L))
        first = (len(codes_L) - span) // 2
        known_S = ~np.isnan(p_L4[first : first + span, 0])
        target_T = first + np.flatnonzero(known_S)
        own_T4 = _bits(p_L4[target_T])
        maps_SS = np.full((span, span), np.nan)
        all_of_them = substitutions(codes_L, first, first + span)
        maps_SS[np.ix_(known_S, known_S)] = 0
        for number, position in enumerate(all_of_them.position_M.tolist()):
            mutant_1L = all_of_them.mutants(codes_L, slice(number, number + 1))
            windows_TL = np.broadcast_to(mutant_1L, (len(target_T), len(codes_L)))
            change_T = np.abs(_bits(self._distribution(windows_TL, target_T)) - own_T4).max(1)
            row_T = maps_SS[position - first, target_T - first]
            maps_SS[position - first, target_T - first] = np.fmax(row_T, change_T)
        np.fill_diagonal(maps_SS, np.where(known_S, 0, np.nan))
        return maps_SS


def _bits(p: np.ndarray) -> np.ndarray:
    """Log-odds to the base of 2."""
    p = p.clip(_LEAST, 1 - _LEAST)
    return np.log2(p) - np.log2(1 - p)
