"""In-silico mutagenesis of a classifier: the change of a class's log-odds by each substitution.

The log-odds of a class are ln(p / (1 - p)); of a regression it is the value, in the unit of the
labels. A classifier that was trained on both strands is explained on both, as it predicts.

Its first-order estimate takes one backward pass in place of three forward passes per base: the
gradient at the embeddings of the tokens, times the difference of the embeddings of the mutant's and
of the sequence's own tokens (Sasse et al., iScience 2024, of one-hot bases).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from cmgems.errors import UserError
from cmgems.evaluation.prediction.predictor import Predictor
from cmgems.explanation.attention import attention_maps, check_attention
from cmgems.explanation.explainer import Explainer, Explanation
from cmgems.explanation.substitutions import (
    Substitutions,
    importance,
    importance_heights,
    substitutions,
)
from cmgems.tasks.dataset import Sequences, pack_codes
from cmgems.tasks.tokens import Tokens, batches, tokenize
from cmgems.tokenization import BytePairs

_MUTANTS = 512  # that are tokenized at once


class ClassifierExplainer(Explainer):
    """One class of a classifier.

    Parameters
    ----------
    predictor : the classifier
    name : of the class; "": the second of two, or the value of a regression
    gradients : whether to give the first-order estimate as well
    attention : how many bases in the middle of a sequence have their attention to each other;
        0: none

    Raises
    ------
    UserError
        If there is no such class, tokens have no fixed place and gradients are wanted, or it has no
        attention that is asked for.
    """

    logo: ClassVar[str] = "mean loss by the three substitutions of a base"

    def __init__(
        self, predictor: Predictor, name: str = "", gradients: bool = False, attention: int = 0
    ) -> None:
        self.tokenization, self._predictor = predictor.tokenization, predictor
        self._column = _column(predictor.columns, name)
        self._gradients, self._attention = gradients, attention
        if attention:
            check_attention(predictor.classifier.encoder)
        if gradients and isinstance(self.tokenization, BytePairs):
            raise UserError(
                "--gradients: found byte pairs, wanted tokens that a substitution leaves in place"
            )
        self._positions = predictor.classifier.encoder.config.max_position_embeddings
        self.max_bases = self.tokenization.max_bases(self._positions)
        target = predictor.columns[self._column]
        regression = predictor.kind == "regression"
        self.unit = "value" if regression else "log-odds"
        self.effect = "value, in the unit of the labels" if regression else f"log-odds of {target}"

    def explain(self, codes_L: np.ndarray) -> Explanation:
        all_of_them = substitutions(codes_L)
        score = self.log_odds(pack_codes([codes_L]))[0]
        parts = [np.empty(0, score.numpy().dtype)]
        for start in range(0, len(all_of_them.position_M), _MUTANTS):
            mutants_ML = all_of_them.mutants(codes_L, slice(start, start + _MUTANTS))
            parts.append((self.log_odds(pack_codes(mutants_ML)) - score).numpy())
        effects_L4 = all_of_them.table(codes_L, np.concatenate(parts))
        estimate = self._estimate(codes_L, all_of_them) if self._gradients else None
        attention = None
        if self._attention:
            encoder = self._predictor.classifier.encoder
            attention = attention_maps(encoder, self.tokenization, codes_L, self._attention)
        return Explanation(codes_L, float(score), effects_L4, estimate, attention=attention)

    @staticmethod
    def heights(explanation: Explanation) -> np.ndarray:
        return importance_heights(explanation.codes, importance(explanation.effects))

    @torch.no_grad()
    def log_odds(self, data: Sequences) -> Tensor:
        """[N]: of each sequence, in the type of the weights."""
        return self._of_strands(data, self._logits)

    def _of_strands(self, data: Sequences, logits: Callable[[Sequences], Tensor]) -> Tensor:
        logits_NC = logits(data)
        if self._predictor.both_strands:
            logits_NC = (logits_NC + logits(data.reverse_complement())) / 2
        return self._log_odds(logits_NC)

    def _log_odds(self, logits_NC: Tensor) -> Tensor:
        chosen_N = logits_NC[:, self._column]
        if self._predictor.kind == "regression":
            return chosen_N * self._predictor.deviation + self._predictor.mean
        if self._predictor.kind == "multilabel":
            return chosen_N
        others = [c for c in range(logits_NC.shape[1]) if c != self._column]
        return chosen_N - logits_NC[:, others].logsumexp(1)

    def _logits(self, data: Sequences) -> Tensor:
        """[N, C] on the CPU, a batch of similar length at a time."""
        tokens = self._tokenize(data)
        index = batches(tokens)
        classifier = self._predictor.classifier
        logits = [classifier.differentiable_logits(tokens.select(part)).cpu() for part in index]
        return torch.cat(logits)[torch.cat(index).argsort()]

    def _tokenize(self, data: Sequences) -> Tokens:
        return tokenize(data, self.tokenization, self._positions)

    def _estimate(self, codes_L: np.ndarray, all_of_them: Substitutions) -> np.ndarray:
        """[L, 4]: the first-order estimate of the effects."""
        table = self._predictor.classifier.encoder.tokens
        own = pack_codes([codes_L])
        with _kept_outputs(table) as embeddings_1KD:
            score = self._of_strands(own, self._logits)
        gradients = torch.autograd.grad(score[0], embeddings_1KD)
        change_M = torch.zeros(len(all_of_them.position_M), dtype=score.dtype)
        strands = [own, own.reverse_complement()]
        for number, (strand, gradient) in enumerate(zip(strands, gradients, strict=False)):
            ids_K = self._tokenize(strand).ids_NL[0].long()
            with torch.no_grad():
                slope_KV = (gradient.reshape(len(ids_K), -1) @ table.weight.T).cpu()
            own_K = slope_KV.gather(1, ids_K[:, None])[:, 0]
            for start in range(0, len(change_M), _MUTANTS):
                part = slice(start, start + _MUTANTS)
                mutants = pack_codes(all_of_them.mutants(codes_L, part))
                if number:
                    mutants = mutants.reverse_complement()
                ids_KM = self._tokenize(mutants).ids_NL.long().T
                change_M[part] += (slope_KV.gather(1, ids_KM) - own_K[:, None]).sum(0)
        return all_of_them.table(codes_L, change_M.numpy())


@contextmanager
def _kept_outputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """What a module gives out while the block runs, in order."""
    outputs: list[Tensor] = []
    hook = module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        hook.remove()


def _column(columns: tuple[str, ...], name: str) -> int:
    """The number of a class."""
    if not name and len(columns) > 2:
        raise UserError(f"--class: found none, wanted one of {', '.join(columns)}")
    if name and name not in columns:
        raise UserError(f"--class: found {name}, wanted one of {', '.join(columns)}")
    return columns.index(name) if name else len(columns) - 1
