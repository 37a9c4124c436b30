"""Figures of masked prediction, exact over any number of batches and ranks."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric


class MaskedFigures(NamedTuple):
    loss: float  # mean cross-entropy of the masked tokens, nats
    perplexity: float  # exp(loss)
    accuracy: float  # share of masked tokens whose best logit is the true one
    masked_share: float  # masked of maskable tokens
    masked: int  # tokens

    def named(self, suffix: str = "") -> dict[str, float]:
        figures = {name: value for name, value in self._asdict().items() if name != "masked"}
        return {f"{name}{suffix}": value for name, value in figures.items()}


class MaskedTokens(Metric):
    """Sums over masked tokens; a mean of batch means would weigh small batches too much."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("nats", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("correct", "masked", "maskable"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits_MV: Tensor, targets_M: Tensor, nats: Tensor, maskable: Tensor) -> None:
        """`nats` is the summed cross-entropy of the batch."""
        self.nats += nats
        self.correct += (logits_MV.argmax(1) == targets_M).sum()
        self.masked += len(targets_M)
        self.maskable += maskable

    def compute(self) -> MaskedFigures:
        masked = int(self.masked)
        loss = float(self.nats) / max(masked, 1)
        return MaskedFigures(
            loss=loss,
            perplexity=math.exp(min(loss, 700.0)),
            accuracy=int(self.correct) / max(masked, 1),
            masked_share=masked / max(int(self.maskable), 1),
            masked=masked,
        )
