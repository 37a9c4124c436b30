"""Dropout, of states and of attention weights: from torch's generator, or from one per model."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cmgems.models.bf16_attention import Bf16Attention, serves

BITS = 16  # a seeded decision takes so many random bits


class Dropout:
    """Dropout by torch's global generator.

    Parameters
    ----------
    rate : float
        Probability with which an entry is dropped; those that stay are scaled up.
    """

    def __init__(self, rate: float):
        self.rate = rate

    def __call__(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.rate, training=True)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Softmax attention [B, H, Q, E] whose weights are dropped.

        Parameters
        ----------
        q : [B, H, Q, E]
        k, v : [B, H, K, E]
        mask : bool, True where attended, or a number that is added to the score; broadcasts to
            [B, H, Q, K]
        """
        if self.rate == 0.0 and serves(q):
            return Bf16Attention.apply(q, k, v, mask)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=self.rate)


class SeededDropout(Dropout):
    """Dropout of G models side by side, whose draws belong to the model.

    Padding takes draws too: with sequences of several lengths, what a model drops depends on how
    far its batches are padded, and so on the longest sequence of the models next to it.

    Parameters
    ----------
    rate : float
        Probability with which an entry is dropped, rounded to a multiple of 2**-16.
    seeds : list of int
        One for each of the G models.
    """

    def __init__(self, rate: float, seeds: list[int], device: torch.device | str = "cpu"):
        self.threshold = round(rate * 2**BITS)
        super().__init__(self.threshold / 2**BITS)
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, x: Tensor) -> Tensor:
        """Drop entries of x [G, ...]."""
        if not self.threshold:
            return x
        words = -(-x[0].numel() // 4)
        bits = torch.empty(len(x), words, dtype=torch.int64, device=x.device)
        for row, generator in zip(bits, self.generators, strict=True):
            row.random_(-(2**63), None, generator=generator)
        kept = bits.view(torch.int16)[:, : x[0].numel()] >= self.threshold - 2 ** (BITS - 1)
        return x * (kept.view_as(x).to(x.dtype) / (1 - self.rate))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        if not self.threshold:
            return super().attend(q, k, v, mask)
        scores = (q / math.sqrt(q.shape[-1])) @ k.mT
        if mask is not None and mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, -math.inf)
        elif mask is not None:
            scores = scores + mask
        weights = F.softmax(scores, -1).view(len(self.generators), -1)
        return self(weights).view_as(scores).to(v.dtype) @ v
