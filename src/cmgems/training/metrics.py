"""Metrics of masked prediction, exact over any number of batches and ranks."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric

from cmgems.masking.packing import IGNORED
from cmgems.tokenization.base import HiddenBaseScores, Tokenization
from cmgems.tokenization.hidden import runs_up_to


class MaskedLMOutput(NamedTuple):
    """Predictions against the truth. M predicted positions, some of which need not count."""

    loss_M: Tensor  # float32 cross-entropy, 0 where a position does not count
    correct: Tensor  # int64 scalar: positions whose best logit is the true one
    masked: Tensor  # int64 scalar: positions that count


def masked_lm_loss(logits_MV: Tensor, targets_M: Tensor) -> MaskedLMOutput:
    """Cross-entropy and hits; a target of IGNORED does not count."""
    loss_M = F.cross_entropy(logits_MV.float(), targets_M, ignore_index=IGNORED, reduction="none")
    correct = (logits_MV.detach().argmax(1) == targets_M).sum()
    return MaskedLMOutput(loss_M, correct, (targets_M != IGNORED).sum())


class MaskedLMValues(NamedTuple):
    loss: float  # mean cross-entropy of the masked tokens, nats
    perplexity: float  # exp(loss)
    accuracy: float  # fraction of masked tokens whose best logit is the true one
    masked_fraction: float  # masked of maskable tokens
    masked: int  # tokens

    def named(self) -> dict[str, float]:
        return {name: value for name, value in self._asdict().items() if name != "masked"}


class MaskedLMMetrics(Metric):
    """Sums over masked tokens; a mean of batch means would weigh small batches too much."""

    full_state_update = False
    nats: Tensor  # float64 scalar
    correct: Tensor  # int64 scalars
    masked: Tensor
    maskable: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("nats", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("correct", "masked", "maskable"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, output: MaskedLMOutput, maskable: Tensor) -> None:
        self.nats += output.loss_M.detach().sum()
        self.correct += output.correct
        self.masked += output.masked
        self.maskable += maskable

    def compute(self) -> MaskedLMValues:
        masked = int(self.masked)
        loss = float(self.nats) / max(masked, 1)
        return MaskedLMValues(
            loss=loss,
            perplexity=math.exp(min(loss, 700.0)),
            accuracy=int(self.correct) / max(masked, 1),
            masked_fraction=masked / max(int(self.maskable), 1),
            masked=masked,
        )


class HiddenBaseValues(NamedTuple):
    hidden_base_bits: float  # mean cross-entropy of hidden bases given what is visible, bits
    hidden_base_accuracy: float  # fraction of hidden bases whose most probable base is the true one
    hidden_token_accuracy: float  # accuracy on masked tokens with at least one hidden base
    hidden_bases: int

    def named(self) -> dict[str, float]:
        return {name: value for name, value in self._asdict().items() if name != "hidden_bases"}


class MeasuredBases(NamedTuple):
    """The counted hidden bases of a batch, row by row, and how each is predicted."""

    counted_BL: Tensor  # bool
    scores: HiddenBaseScores


class HiddenBaseMetric(Metric):
    """Prediction of bases that no visible token shows, as far as a single window hides them.

    Longer runs, where windows overlap, are left out: the Markov models of
    `cmgems.difficulty.markov` sum over all fillings of a run, which takes 4 times as long with each
    base, and both are to be measured on the same bases.

    Attributes
    ----------
    last : MeasuredBases
        The bases of the last batch.
    """

    full_state_update = False
    bits: Tensor  # float64 scalar
    correct: Tensor  # int64 scalars
    bases: Tensor
    tokens: Tensor
    tokens_correct: Tensor
    last: MeasuredBases

    def __init__(self, tokenization: Tokenization) -> None:
        super().__init__()
        self.tokenization = tokenization
        self.add_state("bits", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("correct", "bases", "tokens", "tokens_correct"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        logits_MV: Tensor,
        targets_M: Tensor,
        codes_BL: Tensor,
        mask_BK: Tensor,
        maskable_BK: Tensor,
        ids_BK: Tensor | None = None,
    ) -> None:
        """Logits of the masked tokens in the order of `mask_BK`, over the whole vocabulary;
        `ids_BK` as `Tokenization.hidden_bases` takes them."""
        width = codes_BL.shape[1]
        hidden_BL = self.tokenization.hidden_bases(mask_BK, maskable_BK, ids_BK, width)
        tokens_M = (self.tokenization.count_in_tokens(hidden_BL, ids_BK) > 0)[mask_BK]
        self.tokens += tokens_M.sum()
        self.tokens_correct += ((logits_MV.argmax(1) == targets_M) & tokens_M).sum()
        counted_BL = runs_up_to(hidden_BL, self.tokenization.max_hidden_run)
        scores = self.tokenization.score_bases(logits_MV, mask_BK, counted_BL, codes_BL, ids_BK)
        self.bits += scores.bits_H.sum()
        self.correct += scores.correct_H.sum()
        self.bases += len(scores.bits_H)
        self.last = MeasuredBases(counted_BL, scores)

    def compute(self) -> HiddenBaseValues:
        bases = int(self.bases)
        return HiddenBaseValues(
            hidden_base_bits=float(self.bits) / max(bases, 1),
            hidden_base_accuracy=int(self.correct) / max(bases, 1),
            hidden_token_accuracy=int(self.tokens_correct) / max(int(self.tokens), 1),
            hidden_bases=bases,
        )


class PretrainingMetrics(nn.Module):
    """The metrics of a training step, and those of a validation under several strategies.

    Parameters
    ----------
    strategies : all that a validation can mask with
    tokenization : Tokenization
    """

    def __init__(self, strategies: Iterable[str], tokenization: Tokenization) -> None:
        super().__init__()
        self.step = MaskedLMMetrics()  # the micro-batches of a training step
        self.strategies = sorted(strategies)  # these may hold dots, which a ModuleDict refuses
        self.val_metrics = nn.ModuleList(MaskedLMMetrics() for _ in self.strategies)
        self.hidden_base_metric = HiddenBaseMetric(tokenization)

    def validation_metric(self, strategy: str) -> MaskedLMMetrics:
        """The metric of a validation under the masks of a strategy."""
        metric = self.val_metrics[self.strategies.index(strategy)]
        assert isinstance(metric, MaskedLMMetrics)  # a ModuleList holds any module
        return metric

    def reset_validation(self) -> None:
        for metric in (*self.val_metrics, self.hidden_base_metric):
            metric.reset()
