"""Running losses of the k-mers: difficulty as the model itself sees it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

UNIT = 1 << 16  # losses are summed as integers in units of 1 / UNIT nats: exact in any order
NOTHING_KNOWN = 2.0  # bits per base of a model that knows nothing of it


class KmerLosses(torch.nn.Module):
    """The running mean of the loss of each k-mer, and the ranks that follow from it.

    Ranks change only in `refresh`, which the curriculum calls after each validation, alike on all
    processes of a distributed run; each refresh halves the weight of earlier losses. Sums are
    integers, so they depend neither on the order of addition nor on the number of processes.

    Parameters
    ----------
    rank_V : int32 [V]
        The ranks before anything is observed, which also break ties.
    reference_bits_V : float64 [V], optional
        Bits per base of another model. Means are then per hidden base, and ranks follow from what
        they are above the reference; a k-mer that was not observed has the mean of a model that
        knows nothing. Without it means are per token, and what was not observed ranks first.
    """

    rank_V: Tensor
    sums_V2: Tensor  # int64: loss in units; observations, or hidden bases, in units
    initial_rank_V: Tensor
    reference_bits_V: Tensor | None

    def __init__(self, rank_V: Tensor, reference_bits_V: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("rank_V", rank_V.clone())
        self.register_buffer("sums_V2", torch.zeros(len(rank_V), 2, dtype=torch.int64))
        self.register_buffer("initial_rank_V", rank_V, persistent=False)
        self.register_buffer("reference_bits_V", reference_bits_V, persistent=False)
        # What this process alone has observed since the last `collect`. It is not a buffer, since
        # buffers are alike on all processes.
        self._pending_V2: Tensor | None = None

    def observe(self, index_M: Tensor, loss_M: Tensor, hidden_M: Tensor | None = None) -> None:
        """Add the losses (nats) of masked tokens.

        Parameters
        ----------
        index_M : int64 [M], the k-mer of each token; a token with an index below 0 is ignored
        loss_M : float [M]
        hidden_M : int64 [M], bases that each token hides: with a reference; a token that can be
            copied, which hides none, is ignored
        """
        if self._pending_V2 is None:
            self._pending_V2 = torch.zeros_like(self.sums_V2)
        units_M = (loss_M.detach().double() * UNIT).round().long()
        weight_M = torch.ones_like(units_M) if hidden_M is None else hidden_M
        observed_M2 = torch.stack([units_M, weight_M * UNIT], dim=1)
        observed_M2 *= ((index_M >= 0) & (weight_M > 0))[:, None]
        self._pending_V2.index_add_(0, index_M.clamp(min=0), observed_M2)

    def collect(self, add_up: Callable[[Tensor], Tensor]) -> None:
        """Add what all processes have observed; `add_up` sums a tensor over them."""
        pending = self._pending_V2
        self._pending_V2 = None
        self.sums_V2 += add_up(torch.zeros_like(self.sums_V2) if pending is None else pending)

    def refresh(self) -> None:
        """Rank by the means, then halve the weight of the past."""
        total_V, count_V = self.sums_V2.unbind(1)
        score_V = total_V.double() / count_V.clamp(min=1)
        if self.reference_bits_V is None:
            score_V = torch.where(count_V > 0, score_V, float("inf"))
        else:
            bits_V = torch.where(count_V > 0, score_V / math.log(2), NOTHING_KNOWN)
            score_V = bits_V - self.reference_bits_V
        initial_V = self.initial_rank_V.argsort()
        order_V = initial_V[score_V[initial_V].argsort(descending=True, stable=True)]
        self.rank_V[order_V] = torch.arange(1, len(order_V) + 1, device=order_V.device).int()
        self.sums_V2 >>= 1
